/** The classes of the present colour: which keys there are, how they are called, how they are marked, how many. */

import { computed } from '@preact/signals';
import type { Segmentation } from '../api/shapes';
import { type Mark, marksFor, NONE, OTHER, STAGE_MARKS, shadeMarks } from '../design/palette';
import { theme } from '../design/theme';
import { words } from '../format';
import { type Counts, countsIn } from '../map/tally';
import { type Shades, scoreOf, shadeCondition, shadeNames } from '../segments/shades';
import {
  type ColourField,
  type ColourKey,
  type FilterField,
  type Filters,
  isFiltered,
  STAGES,
  type State,
} from './model';
import { edition, open, tally } from './screen';
import { company, me } from './session';
import { showWhere, state, toggleFilter } from './store';

export interface LegendRow {
  readonly key: string;
  readonly name: string;
  readonly mark: Mark;
  /** Sites in view; null where that is not known. */
  readonly count: number | null;
  /** False where there may be more than `count`. */
  readonly exact: boolean;
  /** About which share of the view it is, where `count` is told from a part of the sites. */
  readonly share: number | null;
}

/** The score that the map is coloured by. */
export interface Scored {
  readonly segmentation: Segmentation;
  readonly name: string;
  readonly shades: Shades;
}
export const scored = computed<Scored | null>(() =>
  state.value.colour === 'score' ? scoreOf(state.value.score, company.value.segmentations) : null,
);
/** What the map is coloured by: where there is no such score, or not yet, by the stage. */
export const painted = computed<ColourKey>(() =>
  state.value.colour === 'score' && !scored.value ? 'stage' : state.value.colour,
);

/** The conditions of the shades, the lowest first, as the filter holds them. */
const shadeFilters = computed<readonly string[]>(() => {
  const { segmentation, name, shades } = scored.value ?? {};
  if (!segmentation || !name || !shades) return [];
  return Array.from({ length: shades.cuts.length + 1 }, (_, i) =>
    JSON.stringify(shadeCondition(segmentation.key, name, shades, i)),
  );
});

/** The keys of the legend that are chosen as a filter. */
export const chosen = computed<readonly string[]>(() => {
  const { filters } = state.value;
  if (painted.value !== 'score') return filters[painted.value];
  const place = shadeFilters.value.indexOf(filters.where ?? '');
  return place < 0 ? [] : [String(place)];
});

/** Chooses a key of the legend, or not any more. */
export function toggleRow(key: string): void {
  const field = painted.value;
  if (field !== 'score') toggleFilter(field, key);
  else showWhere(chosen.value.includes(key) ? null : JSON.parse(shadeFilters.value[Number(key)] ?? 'null'));
}

/** The filters without what is chosen of the legend. */
function others(filters: Filters): Filters {
  if (painted.value !== 'score') return { ...filters, [painted.value]: [] };
  return chosen.value.length > 0 ? { ...filters, where: null } : filters;
}

const stageMarks: ReadonlyMap<string, Mark> = new Map(Object.entries(STAGE_MARKS));
export const ownerMarks = computed(() => marksFor(keysOf('owner')));
export const territoryMarks = computed(() => marksFor(company.value.territories.map((area) => area.id)));

/** The segmentation whose segments the map can be coloured by. */
export const active = computed(() => company.value.segmentations.find((row) => row.is_active) ?? null);
export const segmentMarks = computed(() =>
  marksFor(active.value?.segments.map(({ id }) => id) ?? [], 'there and back'),
);

export const marks = computed<ReadonlyMap<string, Mark>>(() => {
  if (scored.value) return shadeMarks(scored.value.shades.cuts.length + 1, theme.value === 'dark');
  if (painted.value === 'owner') return ownerMarks.value;
  if (painted.value === 'segment') return segmentMarks.value;
  return painted.value === 'territory' ? territoryMarks.value : stageMarks;
});

const names = computed<ReadonlyMap<string, string>>(() => {
  const { owners, territories, segmentations } = company.value;
  const segments = segmentations.flatMap((row) => row.segments);
  return new Map([...owners, ...territories, ...segments].map((row) => [row.id, row.name ?? row.id]));
});

const NOBODY: Readonly<Record<string, string>> = {
  owner: 'No owner',
  territory: 'No territory',
  segment: 'In no segment',
  score: 'No score',
};

export function nameOf(field: FilterField | ColourKey, key: string): string {
  if (field === 'stage' || field === 'kind') return words(key);
  if (key === NONE) return NOBODY[field] ?? '';
  if (field === 'score')
    return scored.value ? (shadeNames(scored.value.name, scored.value.shades)[Number(key)] ?? '') : '';
  return names.value.get(key) ?? key;
}

/** Those among whom the person's customers are: not the whole company. */
function keysOf(key: ColourField): readonly string[] {
  if (key === 'stage') return STAGES;
  if (key === 'segment') return active.value?.segments.map(({ id }) => id) ?? [];
  const { keys, owners, territories } = company.value;
  if (keys) return Object.keys(keys[key]);
  return (key === 'owner' ? owners.filter(({ role }) => role === 'rep' || role === 'manager') : territories).map(
    ({ id }) => id,
  );
}

const byName = (a: { key: string; name: string }, b: { key: string; name: string }): number =>
  Number(a.key === NONE) - Number(b.key === NONE) || a.name.localeCompare(b.name, 'en', { numeric: true });

/** Owners or territories to choose from, by name, with all the customer sites that the person sees of each. */
export function choicesOf(
  field: 'owner' | 'territory' | 'segment',
): { key: string; name: string; count: number | null }[] {
  const counts = company.value.keys?.[field];
  const own = field === 'territory' ? company.value.territories.filter((area) => area.owner?.id === me.value?.id) : [];
  return [...new Set([...keysOf(field), ...own.map(({ id }) => id)])]
    .filter((key) => key !== NONE)
    .map((key) => ({ key, name: nameOf(field, key), count: counts ? (counts[key] ?? 0) : null }))
    .sort(byName);
}

/** Of which view, colour and other filters a count is, whatever is chosen of the colour's own field. */
export function scopeOf({ view, filters }: Pick<State, 'view' | 'filters'>): string {
  const { segmentation, name, shades } = scored.value ?? {};
  return JSON.stringify([view, painted.value, segmentation?.id, name, shades, edition.value, others(filters)]);
}

/**
 * Rows of a legend: the most frequent in view first, then by name; stages in their own order. `among` are the only keys
 * whose count is known, as the others are filtered away: then all stand by name, so that a pressed row stays where it is.
 */
export function rowsOf(
  key: ColourKey,
  keys: readonly string[],
  known: ReadonlyMap<string, Mark>,
  seen: { readonly counts: Counts; readonly exact: boolean; readonly sampled?: boolean } | null,
  among: readonly string[] | null = null,
): LegendRow[] {
  const all = new Set([...keys, ...Object.keys(seen?.counts ?? {})]);
  const total = Object.values(seen?.counts ?? {}).reduce((sum, n) => sum + n, 0);
  const rows = [...all].map((value): LegendRow => {
    const count = seen && (among?.includes(value) ?? true) ? (seen.counts[value] ?? 0) : null;
    return {
      key: value,
      name: nameOf(key, value),
      mark: known.get(value) ?? OTHER,
      // No mention in a cell's four most frequent keys does not mean that there is none.
      count: seen && !seen.exact && count === 0 ? null : count,
      exact: seen?.exact ?? false,
      share: seen?.sampled && total > 0 && count !== null ? count / total : null,
    };
  });
  if (key === 'stage' || key === 'score') return rows;
  const weight = ({ key, count }: LegendRow) => (among || key === NONE ? 0 : (count ?? 0));
  return rows.sort((a, b) => weight(b) - weight(a) || byName(a, b));
}

/** The legend of the present colour. What is chosen of it changes no row: each says what it would show. */
export const legend = computed<readonly LegendRow[]>(() => {
  const key = painted.value;
  const known = open.value?.scope === scopeOf(state.value) ? open.value.tally : null;
  const among = known || chosen.value.length === 0 ? null : chosen.value;
  const whole = !among && !isFiltered(others(state.value.filters));
  // After a change of colour the map may still show the last one, whose keys are none of this one's.
  const last = tally.value?.colour === key ? tally.value : null;
  const seen = known ?? last;
  if (key === 'score') {
    const counts = seen && { counts: Object.fromEntries(seen.byKey), exact: seen.exact, sampled: seen.sampled };
    return rowsOf(key, [...marks.value.keys()], marks.value, counts, among);
  }
  const counts = seen && countsIn(seen, whole ? (company.value.keys?.[key] ?? null) : null);
  return rowsOf(key, keysOf(key), marks.value, counts, among);
});
