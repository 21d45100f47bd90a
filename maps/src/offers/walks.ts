/** A walk along a path as a phone would tell it: fixes at intervals, each a little beside the true point. Pure. */

import type { Point } from '../state/model';

export interface Walk {
  readonly path: readonly Point[];
  /** Metres a second. */
  readonly speed: number;
  /** Seconds between fixes. */
  readonly every_s: number;
  /** Seconds spent at each corner. */
  readonly rest_s: number;
  /** The radius that holds the true point in 68 % of cases. */
  readonly accuracy_m: number;
  /** The same seed jitters alike. */
  readonly seed: number;
}

export interface Fix extends Point {
  /** Seconds since the walk began. */
  readonly at_s: number;
}

/** So many fixes the API takes at a time. */
export const MOST = 2_000;

const METRES_A_DEGREE = 111_320;
/** A circle of 68 % around a normal point has this many standard deviations as its radius. */
const SIGMAS = Math.sqrt(-2 * Math.log(1 - 0.68));

const cosine = (lat: number) => Math.max(Math.cos((lat * Math.PI) / 180), 1e-6);

/** Metres between two points that lie near each other. */
export function apart(a: Point, b: Point): number {
  const east = (((b.lon - a.lon + 540) % 360) - 180) * cosine((a.lat + b.lat) / 2);
  return Math.hypot(east, b.lat - a.lat) * METRES_A_DEGREE;
}

/** Metres that a pixel of the map is wide at a latitude. */
export const pixel_m = (lat: number, zoom: number): number => (360 * METRES_A_DEGREE * cosine(lat)) / (512 * 2 ** zoom);

export const lengthOf = (path: readonly Point[]): number =>
  path.slice(1).reduce((sum, point, place) => sum + apart(path[place] ?? point, point), 0);

/** How long a walk takes, in seconds. */
export const durationOf = ({ path, speed, rest_s }: Walk): number =>
  lengthOf(path) / speed + rest_s * Math.max(path.length, 0);

/** Where the walker truly is, so many seconds after the start. */
export function placeAt({ path, speed, rest_s }: Walk, at_s: number): Point | null {
  let left = at_s;
  for (const [place, from] of path.entries()) {
    if (left <= rest_s) return from;
    left -= rest_s;
    const to = path[place + 1];
    if (!to) return from;
    const takes = apart(from, to) / speed;
    if (left < takes) {
      const part = left / takes;
      return { lon: from.lon + (to.lon - from.lon) * part, lat: from.lat + (to.lat - from.lat) * part };
    }
    left -= takes;
  }
  return path.at(-1) ?? null;
}

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
export function numbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Seconds between the fixes of a walk: as asked, or so many that there are not too many of them. */
export const spacing = (walk: Walk): number => Math.max(walk.every_s, durationOf(walk) / (MOST - 2));

/** The fixes of a walk, the first at its start and the last at its end; none of a path without two corners. */
export function fixesOf(walk: Walk): readonly Fix[] {
  if (walk.path.length < 2) return [];
  const random = numbers(walk.seed);
  const sigma = walk.accuracy_m / SIGMAS;
  const duration = durationOf(walk);
  const every = spacing(walk);
  const times = Array.from({ length: Math.floor(duration / every) + 1 }, (_, place) => place * every);
  if (duration - (times.at(-1) ?? 0) > 0.5) times.push(duration);
  return times.flatMap((at_s) => {
    const point = placeAt(walk, at_s);
    if (!point) return [];
    const reach = sigma * Math.sqrt(-2 * Math.log(1 - random()));
    const turn = 2 * Math.PI * random();
    const lat = Math.min(90, Math.max(-90, point.lat + (reach * Math.sin(turn)) / METRES_A_DEGREE));
    const lon = point.lon + (reach * Math.cos(turn)) / (METRES_A_DEGREE * cosine(point.lat));
    return [{ lon: ((lon + 540) % 360) - 180, lat, at_s }];
  });
}

/** "20 s", "2 min 20 s", "1 h 5 min". */
export function lasting(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return whole % 60 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${Math.floor(minutes / 60)} h`;
}

/** How sure an event is, as far as a person can tell apart: never wholly. */
export const sureness = (probability: number): string =>
  probability >= 0.99 ? 'over 99 %' : `${Math.round(probability * 100)} %`;

/** What is told of one place on the map: its numbers, in short. */
export interface Numbered extends Point {
  readonly label: string;
}

/** Numbers of the points, from 1; those within `near_m` of the first of a place stand there together. */
export function numbered(points: readonly Point[], near_m: number): readonly Numbered[] {
  const places: { readonly at: Point; readonly numbers: number[] }[] = [];
  for (const [i, point] of points.entries()) {
    const place = places.find(({ at }) => apart(at, point) <= near_m);
    if (place) place.numbers.push(i + 1);
    else places.push({ at: point, numbers: [i + 1] });
  }
  return places.map(({ at, numbers: own }) => ({ ...at, label: inShort(own) }));
}

/** "1", "2–4", "1, 3"; of many the first and the last. */
function inShort(own: readonly number[]): string {
  const [first = 0, last = 0] = [own[0], own.at(-1)];
  if (own.length === 1) return String(first);
  if (last - first === own.length - 1) return own.length === 2 ? `${first}, ${last}` : `${first}–${last}`;
  return own.length < 4 ? own.join(', ') : `${first} … ${last}`;
}
