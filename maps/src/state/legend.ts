/** The classes of the present colour: which keys there are, how they are called and how they are marked. */

import { computed } from '@preact/signals';
import { type Mark, marksFor, NONE, STAGE_MARKS } from '../design/palette';
import { words } from '../format';
import type { Tally } from '../map/tally';
import { type ColourKey, type FilterField, STAGES } from './model';
import { company } from './session';
import { colour } from './store';

export interface LegendRow {
  readonly key: string;
  readonly name: string;
  readonly mark: Mark;
  readonly count: number;
}

const stageMarks: ReadonlyMap<string, Mark> = new Map(Object.entries(STAGE_MARKS));
export const ownerMarks = computed(() => marksFor(company.value.owners.map((owner) => owner.id)));
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

/** All keys of a colour with their counts in the view, the most frequent first; stages in their own order. */
export function legendRows(key: ColourKey, known: ReadonlyMap<string, Mark>, tally: Tally | null): LegendRow[] {
  const counts = tally?.byKey ?? new Map<string, number>();
  const keys = new Set<string>(key === 'stage' ? STAGES : known.keys());
  for (const seen of counts.keys()) keys.add(seen);
  const rows = [...keys].map((value) => ({
    key: value,
    name: nameOf(key, value),
    mark: known.get(value) ?? { colour: '#8d949e', shape: 'circle' as const },
    count: counts.get(value) ?? 0,
  }));
  if (key === 'stage') return rows;
  return rows.sort((a, b) => b.count - a.count || a.name.localeCompare(b.name));
}
