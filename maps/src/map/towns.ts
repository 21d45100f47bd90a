/** The town by which one knows where one is when the view holds no town's name. */

import { distance, wind } from '../format';
import type { Point } from '../state/model';
import { within } from './labels';
import type { Bounds } from './map';

export interface Town extends Point {
  readonly name: string;
}

export interface Orientation {
  readonly name: string;
  /** From the town to the point, on the sphere. */
  readonly distance_m: number;
  /** Clockwise from north, as the town sees the point. */
  readonly bearing_deg: number;
}

const EARTH_RADIUS_M = 6_371_008.8;
const RADIAN = Math.PI / 180;

/** Distance and bearing of a point as a town sees it, along the great circle. */
function seenFrom(town: Town, point: Point): Orientation {
  const [lat1, lat2, turn] = [town.lat * RADIAN, point.lat * RADIAN, (point.lon - town.lon) * RADIAN];
  const half = Math.sin((lat2 - lat1) / 2) ** 2 + Math.cos(lat1) * Math.cos(lat2) * Math.sin(turn / 2) ** 2;
  const north = Math.cos(lat1) * Math.sin(lat2) - Math.sin(lat1) * Math.cos(lat2) * Math.cos(turn);
  return {
    name: town.name,
    distance_m: 2 * EARTH_RADIUS_M * Math.asin(Math.sqrt(half)),
    bearing_deg: (Math.atan2(Math.sin(turn) * Math.cos(lat2), north) / RADIAN + 360) % 360,
  };
}

/** How the nearest town sees a point; null where a town lies in the view, whose name is drawn, or where there is none. */
export function orientation(towns: readonly Town[], view: Bounds, point: Point): Orientation | null {
  return towns.some(({ lon, lat }) => within(view, lon, lat)) ? null : nearest(towns, point);
}

/** How the nearest of some named points sees a point; null where there is none. */
export function nearest(named: readonly Town[], point: Point): Orientation | null {
  return named
    .map((town) => seenFrom(town, point))
    .reduce<Orientation | null>((best, next) => (best && best.distance_m <= next.distance_m ? best : next), null);
}

/** So near one is at a place rather than beside it. */
const AT_M = 100;

/** Where a point is, by the nearest of some named points: "At …", "2.4 km north of …"; null where there is none. */
export function spotWords(named: readonly Town[], point: Point): string | null {
  const near = nearest(named, point);
  if (!near) return null;
  return near.distance_m <= AT_M
    ? `At ${near.name}`
    : `${distance(near.distance_m)} ${wind(near.bearing_deg)} of ${near.name}`;
}

/** The towns of the built-in basemap. */
export async function loadTowns(): Promise<readonly Town[]> {
  const answer = await fetch('/basemap/labels.json');
  if (!answer.ok) throw new Error(`labels of the basemap: ${answer.status}`);
  const { features } = (await answer.json()) as GeoJSON.FeatureCollection<GeoJSON.Point>;
  return features.flatMap(({ properties, geometry }) => {
    const [lon, lat] = geometry.coordinates;
    if (properties?.kind !== 'town' || lon === undefined || lat === undefined) return [];
    return [{ name: String(properties.name), lon, lat }];
  });
}
