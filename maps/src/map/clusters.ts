/**
 * Clusters that a person can read, made from the fine cells of the tiles: cells are gathered in a grid of about
 * `SPACING` pixels that stands still on the world while the map is moved. Pure; degrees and pixels in, points out.
 */

import { type Cell, countsOf } from './tally';

/** Pixels between the middles of two neighbouring clusters at a whole zoom. */
const SPACING = 76;
/** Pixels of the world at zoom 0. */
const WORLD = 512;
/** How far a cluster may stand from the middle of its square, as share of the side: near its customers, not on others. */
const SWAY = 0.24;

export interface Cluster {
  readonly lon: number;
  readonly lat: number;
  readonly n: number;
  /** The most frequent key. */
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

interface Gathered {
  n: number;
  x: number;
  y: number;
  readonly counts: Map<string, number>;
}

/** The clusters of cells at a zoom, the largest first; the same cells give the same clusters. */
export function clustersOf(cells: Iterable<Cell>, zoom: number): readonly Cluster[] {
  const squares = Math.max(1, Math.round((WORLD * 2 ** Math.floor(zoom)) / SPACING));
  const gathered = new Map<number, Gathered>();
  for (const { lon, lat, properties } of cells) {
    const n = Number(properties.n ?? 1);
    const [x, y] = toSquare(lon, lat);
    const place = Math.floor(x * squares) + Math.floor(y * squares) * squares;
    let square = gathered.get(place);
    if (!square) {
      square = { n: 0, x: 0, y: 0, counts: new Map() };
      gathered.set(place, square);
    }
    square.n += n;
    square.x += x * n;
    square.y += y * n;
    for (const [key, part] of Object.entries(countsOf(properties.counts) ?? { [String(properties.key ?? '')]: n })) {
      square.counts.set(key, (square.counts.get(key) ?? 0) + part);
    }
  }
  const clusters: Cluster[] = [];
  for (const [place, { n, x, y, counts }] of gathered) {
    const middle = [(place % squares) + 0.5, Math.floor(place / squares) + 0.5] as const;
    const near = (value: number, centre: number) =>
      Math.min(Math.max((value / n) * squares, centre - SWAY), centre + SWAY) / squares;
    const [lon, lat] = fromSquare(near(x, middle[0]), near(y, middle[1]));
    let key = '';
    let most = -1;
    for (const [name, part] of counts) if (part > most || (part === most && name < key)) [key, most] = [name, part];
    clusters.push({ lon: Number(lon.toFixed(6)), lat: Number(lat.toFixed(6)), n, key });
  }
  return clusters.sort((a, b) => b.n - a.n || a.lon - b.lon || a.lat - b.lat);
}
