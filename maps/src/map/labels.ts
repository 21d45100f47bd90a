/**
 * One name for each area, though every tile holds a piece of it: inside the largest piece whose middle is in the view.
 * Pure; rings of degrees in, points out.
 */

import type { Bounds } from './map';

type Ring = readonly (readonly number[])[];

export interface Piece {
  readonly id: string;
  readonly name: string;
  /** The outer rings of the piece. */
  readonly rings: readonly Ring[];
}

export interface Label {
  readonly id: string;
  readonly name: string;
  readonly lon: number;
  readonly lat: number;
}

/** Twice the area that a ring encloses, in square degrees. */
function extent(ring: Ring): number {
  let sum = 0;
  for (let i = 0; i < ring.length; i++) {
    const [x = 0, y = 0] = ring[i] ?? [];
    const [x2 = 0, y2 = 0] = ring[(i + 1) % ring.length] ?? [];
    sum += x * y2 - x2 * y;
  }
  return Math.abs(sum);
}

/** A point well inside a ring: the middle of the widest of three horizontal cuts. */
export function inside(ring: Ring): readonly [number, number] {
  let [south, north] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const [, y = 0] of ring) [south, north] = [Math.min(south, y), Math.max(north, y)];
  let [widest, at]: [number, readonly [number, number]] = [-1, [ring[0]?.[0] ?? 0, ring[0]?.[1] ?? 0]];
  for (const share of [0.5, 0.38, 0.62]) {
    const y = south + (north - south) * share;
    const cuts: number[] = [];
    for (let i = 0; i < ring.length; i++) {
      const [x1 = 0, y1 = 0] = ring[i] ?? [];
      const [x2 = 0, y2 = 0] = ring[(i + 1) % ring.length] ?? [];
      if (y1 > y !== y2 > y) cuts.push(x1 + ((y - y1) / (y2 - y1)) * (x2 - x1));
    }
    cuts.sort((a, b) => a - b);
    for (let i = 0; i + 1 < cuts.length; i += 2) {
      const [from = 0, to = 0] = [cuts[i], cuts[i + 1]];
      if (to - from > widest) [widest, at] = [to - from, [(from + to) / 2, y]];
    }
  }
  return at;
}

/** Whether a point lies in bounds that may reach over ±180°. */
export function within(bounds: Bounds, lon: number, lat: number): boolean {
  if (lat < bounds[1] || lat > bounds[3]) return false;
  return [lon, lon - 360, lon + 360].some((turned) => turned >= bounds[0] && turned <= bounds[2]);
}

/** One label for each area, by id. */
export function labelsOf(pieces: Iterable<Piece>, view: Bounds): readonly Label[] {
  const best = new Map<string, { readonly rank: number; readonly label: Label }>();
  for (const { id, name, rings } of pieces) {
    for (const ring of rings) {
      const [lon, lat] = inside(ring);
      // What can be seen comes before what is larger.
      const rank = extent(ring) + (within(view, lon, lat) ? 1e6 : 0);
      if (rank > (best.get(id)?.rank ?? -1)) {
        best.set(id, { rank, label: { id, name, lon: Number(lon.toFixed(4)), lat: Number(lat.toFixed(4)) } });
      }
    }
  }
  return [...best.values()].map(({ label }) => label).sort((a, b) => (a.id < b.id ? -1 : 1));
}
