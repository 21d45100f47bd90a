/**
 * Clusters that a person can read, made from the fine cells of the tiles. Cells are gathered in small squares that
 * stand still on the world while the map is moved; then the fullest square takes in its neighbours, so that clusters
 * keep their distance and stand where most of their customers are. Pure; degrees in, points out.
 */

import { NONE, UNKNOWN } from '../design/palette';
import { type Cell, partsOf } from './tally';

/** Least pixels between two clusters at a whole zoom. */
const DISTANCE = 52;
/** Side of the squares, in pixels at a whole zoom. */
const SIDE = 26;
/** Pixels of the world at zoom 0. */
const WORLD = 512;

export interface Cluster {
  readonly lon: number;
  readonly lat: number;
  readonly n: number;
  /** The most frequent key; of shades the one in the middle. */
  readonly key: string;
}

/** Longitude and latitude as shares of the Web Mercator square, from its north-west corner. */
export function toSquare(lon: number, lat: number): [number, number] {
  const sine = Math.sin((Math.min(Math.max(lat, -85.0511287798066), 85.0511287798066) * Math.PI) / 180);
  return [(lon + 180) / 360, 0.5 - Math.log((1 + sine) / (1 - sine)) / (4 * Math.PI)];
}

export function fromSquare(x: number, y: number): [number, number] {
  return [x * 360 - 180, (Math.atan(Math.sinh(Math.PI * (1 - 2 * y))) * 180) / Math.PI];
}

interface Square {
  n: number;
  x: number;
  y: number;
  readonly counts: Map<string, number>;
}

function gather(cells: Iterable<Cell>, world: number): Square[] {
  const across = Math.ceil(world / SIDE);
  const squares = new Map<number, Square>();
  for (const { lon, lat, properties } of cells) {
    const n = Number(properties.n ?? 1);
    const [x, y] = toSquare(lon, lat).map((share) => share * world) as [number, number];
    const place = Math.floor(x / SIDE) + Math.floor(y / SIDE) * across;
    let square = squares.get(place);
    if (!square) {
      square = { n: 0, x: 0, y: 0, counts: new Map() };
      squares.set(place, square);
    }
    square.n += n;
    square.x += x * n;
    square.y += y * n;
    add(square.counts, partsOf(properties, n));
  }
  for (const square of squares.values()) {
    square.x /= square.n;
    square.y /= square.n;
  }
  return [...squares.values()].sort((a, b) => b.n - a.n || a.x - b.x || a.y - b.y);
}

function add(counts: Map<string, number>, more: Iterable<readonly [string, number]>): void {
  for (const [key, n] of more) counts.set(key, (counts.get(key) ?? 0) + n);
}

/** The most frequent key; `keyed`: of those who have one, as long as there are any. */
function mostFrequent(counts: ReadonlyMap<string, number>, keyed: boolean): string {
  let [best, most] = [NONE, -1];
  for (const [key, n] of counts) {
    if (keyed && key === NONE) continue;
    if (n > most || (n === most && key < best)) [best, most] = [key, n];
  }
  return best;
}

/** The shade in the middle of those that have one; whoever has no score has no say. */
function middle(counts: ReadonlyMap<string, number>): string {
  const shades = [...counts].filter(([key]) => key !== NONE).sort(([a], [b]) => Number(a) - Number(b));
  let left = shades.reduce((sum, [, n]) => sum + n, 0) / 2;
  for (const [key, n] of shades) {
    left -= n;
    if (left <= 0) return key;
  }
  return counts.size > 0 ? NONE : UNKNOWN;
}

/** What the key of a cluster is: the most frequent, the same of those who have one as long as any has, the middle one. */
export type Deciding = 'most' | 'keyed' | 'middle';

/** The clusters of cells at a zoom, the fullest first; the same cells give the same clusters. */
export function clustersOf(cells: Iterable<Cell>, zoom: number, deciding: Deciding = 'most'): readonly Cluster[] {
  const world = WORLD * 2 ** Math.floor(zoom);
  const kept: Square[] = [];
  // The kept ones by squares of DISTANCE: who is too near stands in one of nine.
  const near = new Map<string, Square[]>();
  for (const square of gather(cells, world)) {
    const [column, row] = [Math.floor(square.x / DISTANCE), Math.floor(square.y / DISTANCE)];
    let home: Square | null = null;
    let least = DISTANCE;
    for (let i = -1; i <= 1; i++) {
      for (let j = -1; j <= 1; j++) {
        for (const other of near.get(`${column + i},${row + j}`) ?? []) {
          const distance = Math.hypot(other.x - square.x, other.y - square.y);
          if (distance < least) [home, least] = [other, distance];
        }
      }
    }
    if (home) {
      home.n += square.n;
      add(home.counts, square.counts);
    } else {
      kept.push(square);
      const place = `${column},${row}`;
      near.set(place, [...(near.get(place) ?? []), square]);
    }
  }
  return kept
    .map(({ x, y, n, counts }) => {
      const [lon, lat] = fromSquare(x / world, y / world);
      const key = deciding === 'middle' ? middle(counts) : mostFrequent(counts, deciding === 'keyed');
      return { lon: Number(lon.toFixed(6)), lat: Number(lat.toFixed(6)), n, key };
    })
    .sort((a, b) => b.n - a.n || a.lon - b.lon || a.lat - b.lat);
}
