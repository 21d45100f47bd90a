/** The classes of the present colour: which keys there are, how they are called, how they are marked, how many. */

import { computed } from '@preact/signals';
import { type Mark, marksFor, NONE, OTHER, STAGE_MARKS } from '../design/palette';
import { words } from '../format';
import { type Counts, countsIn } from '../map/tally';
import { type ColourKey, type FilterField, isFiltered, STAGES } from './model';
import { tally } from './screen';
import { company, me } from './session';
import { colour, filters } from './store';

export interface LegendRow {
  readonly key: string;
  readonly name: string;
  readonly mark: Mark;
  /** Sites in view; null where that is not known. */
  readonly count: number | null;
  /** False where there may be more than `count`. */
  readonly exact: boolean;
}

const stageMarks: ReadonlyMap<string, Mark> = new Map(Object.entries(STAGE_MARKS));
export const ownerMarks = computed(() => marksFor(keysOf('owner')));
export const territoryMarks = computed(() => marksFor(company.value.territories.map((area) => area.id)));

export const marks = computed<ReadonlyMap<string, Mark>>(() => {
  if (colour.value === 'owner') return ownerMarks.value;
  return colour.value === 'territory' ? territoryMarks.value : stageMarks;
});

const names = computed<ReadonlyMap<string, string>>(() => {
  const { owners, territories } = company.value;
  return new Map([...owners, ...territories].map((row) => [row.id, row.name ?? row.id]));
});

export function nameOf(field: FilterField | ColourKey, key: string): string {
  if (field === 'stage' || field === 'kind') return words(key);
  if (key === NONE) return field === 'owner' ? 'No owner' : 'No territory';
  return names.value.get(key) ?? key;
}

/** Those among whom the person's customers are: not the whole company. */
function keysOf(key: ColourKey): readonly string[] {
  if (key === 'stage') return STAGES;
  const { keys, owners, territories } = company.value;
  if (keys) return Object.keys(keys[key]);
  return (key === 'owner' ? owners.filter(({ role }) => role === 'rep' || role === 'manager') : territories).map(
    ({ id }) => id,
  );
}

const byName = (a: { key: string; name: string }, b: { key: string; name: string }): number =>
  Number(a.key === NONE) - Number(b.key === NONE) || a.name.localeCompare(b.name, 'en', { numeric: true });

/** Owners or territories to choose from, by name, with all the customer sites that the person sees of each. */
export function choicesOf(field: 'owner' | 'territory'): { key: string; name: string; count: number | null }[] {
  const counts = company.value.keys?.[field];
  const own = field === 'territory' ? company.value.territories.filter((area) => area.owner?.id === me.value?.id) : [];
  return [...new Set([...keysOf(field), ...own.map(({ id }) => id)])]
    .filter((key) => key !== NONE)
    .map((key) => ({ key, name: nameOf(field, key), count: counts ? (counts[key] ?? 0) : null }))
    .sort(byName);
}

/** Rows of a legend: who is in view by name, then the others by name; stages in their own order. */
export function rowsOf(
  key: ColourKey,
  keys: readonly string[],
  known: ReadonlyMap<string, Mark>,
  seen: { readonly counts: Counts; readonly exact: boolean } | null,
): LegendRow[] {
  const all = new Set([...keys, ...Object.keys(seen?.counts ?? {})]);
  const rows = [...all].map((value): LegendRow => {
    const count = seen ? (seen.counts[value] ?? 0) : null;
    return {
      key: value,
      name: nameOf(key, value),
      mark: known.get(value) ?? OTHER,
      // No mention in a cell's four most frequent keys does not mean that there is none.
      count: seen && !seen.exact && count === 0 ? null : count,
      exact: seen?.exact ?? false,
    };
  });
  if (key === 'stage') return rows;
  return rows.sort((a, b) => Number((b.count ?? 0) > 0) - Number((a.count ?? 0) > 0) || byName(a, b));
}

/** The legend of the present colour. */
export const legend = computed<readonly LegendRow[]>(() => {
  const key = colour.value;
  const all = isFiltered(filters.value) ? null : (company.value.keys?.[key] ?? null);
  return rowsOf(key, keysOf(key), marks.value, tally.value && countsIn(tally.value, all));
});
