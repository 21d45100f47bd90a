/** How many customer sites stand in the view, and of which key: from the features of the tiles. */

import type { ColourKey } from '../state/model';
import type { Bounds } from './map';

export interface Tally {
  readonly total: number;
  /** The colour by whose keys it counts. */
  readonly colour: ColourKey;
  /** Sites by key of the colour. */
  readonly byKey: ReadonlyMap<string, number>;
  /** False where cells named only their most frequent keys, so that the counts by key are lower bounds. */
  readonly exact: boolean;
  /** The counts by key are told from a part of the sites. */
  readonly sampled: boolean;
}

/** A feature of the tiles of customers: a site (it has an `id`) or a cell with a count `n`. */
export interface Cell {
  readonly lon: number;
  readonly lat: number;
  readonly properties: Readonly<Record<string, unknown>>;
}

/** The counts by key that a cell brings as JSON; null where it brings none. */
export function countsOf(text: unknown): Readonly<Record<string, number>> | null {
  if (typeof text !== 'string') return null;
  try {
    const counts: unknown = JSON.parse(text);
    return counts !== null && typeof counts === 'object' ? (counts as Record<string, number>) : null;
  } catch {
    return null;
  }
}

/**
 * How many of a cell's sites have each key that it names. Of a score that was looked up for a part of them (`looked_at`),
 * each of that part stands for as many as it takes to be all. A cell that counts none has `alone` of its only key.
 */
export function partsOf(properties: Cell['properties'], alone: number): readonly (readonly [string, number])[] {
  const n = Number(properties.n ?? 1);
  const counts = Object.entries(countsOf(properties.counts) ?? { [String(properties.key ?? '')]: alone });
  const looked = Number(properties.looked_at ?? 0);
  return looked > 0 && looked < n ? counts.map(([key, part]) => [key, (part * n) / looked]) : counts;
}

export const isSite = (feature: Cell): boolean => feature.properties.id !== undefined;

/** Each site and each cell once, though several tiles may hold it. */
export function distinct(features: Iterable<Cell>): readonly Cell[] {
  const known = new Map<string, Cell>();
  for (const feature of features) {
    const { properties, lon, lat } = feature;
    known.set(isSite(feature) ? String(properties.site_id) : `${lon.toFixed(6)},${lat.toFixed(6)}`, feature);
  }
  return [...known.values()];
}

/** Counts distinct features by the keys of a colour. */
export function count(features: Iterable<Cell>, colour: ColourKey): Tally {
  const byKey = new Map<string, number>();
  const add = (key: string, n: number) => byKey.set(key, (byKey.get(key) ?? 0) + n);
  let total = 0;
  let exact = true;
  let sampled = false;
  for (const feature of features) {
    const { properties } = feature;
    if (isSite(feature)) {
      total += 1;
      add(String(properties[colour === 'score' ? 'shade' : colour] ?? ''), 1);
      continue;
    }
    const n = Number(properties.n ?? 1);
    total += n;
    let told = 0;
    for (const [key, part] of partsOf(properties, 1)) {
      add(key, part);
      told += part;
    }
    if (colour === 'score' && Number(properties.looked_at ?? 0) < n) sampled = true;
    if (told < n) exact = false;
  }
  return { total, colour, byKey, exact: exact && !sampled, sampled };
}

/** [west, south, east, north] of features, and `margin` degrees around, as a cell is wider than its point; null of none. */
export function boxOf(features: readonly Cell[], margin: number): Bounds | null {
  if (features.length === 0) return null;
  let [west, south, east, north] = [180, 90, -180, -90];
  for (const { lon, lat } of features) {
    [west, south] = [Math.min(west, lon), Math.min(south, lat)];
    [east, north] = [Math.max(east, lon), Math.max(north, lat)];
  }
  return [west - margin, Math.max(south - margin, -90), east + margin, Math.min(north + margin, 90)];
}

export type Counts = Readonly<Record<string, number>>;

/**
 * The counts of a view. Cells of tiles name their four most frequent keys only; where the view holds every site that
 * the person sees (`all`, null where that is not so or not known), the counts of the whole stand for it.
 */
export function countsIn(seen: Tally, all: Counts | null): { readonly counts: Counts; readonly exact: boolean } {
  if (!seen.exact && all) {
    const total = Object.values(all).reduce((sum, n) => sum + n, 0);
    if (total === seen.total) return { counts: all, exact: true };
  }
  return { counts: Object.fromEntries(seen.byKey), exact: seen.exact };
}
