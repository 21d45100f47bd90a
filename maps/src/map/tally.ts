/** How many customer sites stand in the view, and of which key: from the features as drawn. */

import type { ColourKey } from '../state/model';

export interface Tally {
  readonly total: number;
  /** Sites by key of the present colour. */
  readonly byKey: ReadonlyMap<string, number>;
  /** False where clusters named only their most frequent keys, so that the counts by key are lower bounds. */
  readonly exact: boolean;
}

export interface Drawn {
  readonly properties: Readonly<Record<string, unknown>>;
  readonly coordinates: readonly number[];
}

/** The counts by key that a cluster brings as JSON; null where it brings none. */
function countsOf(text: unknown): Readonly<Record<string, number>> | null {
  if (typeof text !== 'string') return null;
  try {
    const counts: unknown = JSON.parse(text);
    return counts !== null && typeof counts === 'object' ? (counts as Record<string, number>) : null;
  } catch {
    return null;
  }
}

/** Counts each site and each cluster once, though a feature may have been drawn for several tiles. */
export function countFeatures(features: Iterable<Drawn>, colour: ColourKey): Tally {
  const seen = new Set<string>();
  const byKey = new Map<string, number>();
  const add = (key: string, n: number) => byKey.set(key, (byKey.get(key) ?? 0) + n);
  let total = 0;
  let exact = true;
  for (const { properties, coordinates } of features) {
    const point = properties.id !== undefined;
    const name = point
      ? String(properties.site_id ?? properties.id)
      : coordinates.map((degrees) => degrees.toFixed(5)).join();
    if (seen.has(name)) continue;
    seen.add(name);
    if (point) {
      total += 1;
      add(String(properties[colour] ?? ''), 1);
      continue;
    }
    const n = Number(properties.n ?? 1);
    total += n;
    let told = 0;
    for (const [key, part] of Object.entries(countsOf(properties.counts) ?? { [String(properties.key ?? '')]: 1 })) {
      add(key, part);
      told += part;
    }
    if (told < n) exact = false;
  }
  return { total, byKey, exact };
}
