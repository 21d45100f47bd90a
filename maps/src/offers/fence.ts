/** A fence as the fields of a form, and as the API takes it. Pure. */

import type { FenceBody } from '../api/routes';
import type { Fence } from '../api/shapes';
import type { Point } from '../state/model';
import { type Fault, type HoursRow, hoursFaults, hoursOf, hoursSent } from './form';
import { heldBy, type Pair, pairFaults, pairsOf } from './pairs';

export interface Drawn {
  readonly tag: string;
  /** Empty for a new one: it is made of the name. */
  readonly id: string;
  readonly name: string;
  readonly shape: 'circle' | 'polygon';
  readonly centre: Point | null;
  readonly radius: string;
  readonly corners: readonly Point[];
  /** Minutes; empty: nobody is told of staying. */
  readonly dwell: string;
  readonly zone: string;
  readonly hours: readonly HoursRow[];
  readonly metadata: readonly Pair[];
}

/** The corners of a polygon of one ring; null for shapes that this form cannot draw. */
function cornersOf(geometry: unknown): readonly Point[] | null {
  const { type, coordinates: given } = geometry as { type?: unknown; coordinates?: unknown };
  const polygons = type === 'MultiPolygon' ? (given as number[][][][]) : [given as number[][][]];
  const [ring0] = polygons[0] ?? [];
  if (polygons.length !== 1 || polygons[0]?.length !== 1 || !ring0) return null;
  return ring0.slice(0, -1).map(([lon = 0, lat = 0]) => ({ lon, lat }));
}

/** The form of a fence, or of a new one on the clock of `zone`. */
export function drawnOf(fence: Fence | null, zone: string): Drawn {
  const polygon = fence !== null && fence.radius_m === null;
  return {
    tag: fence?.tag ?? 'shops',
    id: fence?.external_id ?? '',
    name: fence?.name ?? '',
    shape: polygon ? 'polygon' : 'circle',
    centre: fence?.center ?? null,
    radius: String(fence?.radius_m ?? 150),
    corners: (polygon && cornersOf(fence.geometry)) || [],
    dwell: fence?.dwell_s ? String(Number((fence.dwell_s / 60).toFixed(6))) : '',
    zone: fence?.time_zone ?? zone,
    hours: hoursOf(fence?.hours),
    metadata: pairsOf(fence?.metadata ?? {}),
  };
}

/** Whether a shape of several rings stays as it is: no corner was put in its place. */
export const keepsShape = (fence: Fence | null, { shape, corners }: Drawn): boolean =>
  fence !== null &&
  fence.radius_m === null &&
  shape === 'polygon' &&
  corners.length === 0 &&
  cornersOf(fence.geometry) === null;

/** What the API is sent for a fence, and what the form itself knows to be wrong. */
export function fenceBody(
  form: Drawn,
  fence: Fence | null,
): { readonly body: FenceBody; readonly faults: readonly Fault[] } {
  const faults: Fault[] = [];
  const fault = (pointer: string, detail: string) => faults.push({ pointer, detail });
  const kept = keepsShape(fence, form);
  const radius = Number(form.radius);
  const dwell_s = form.dwell.trim() === '' ? null : Number((Number(form.dwell) * 60).toFixed(3));
  if (!/^[a-z0-9][a-z0-9_-]{0,62}$/.test(form.tag)) fault('/tag', 'small letters and digits, such as shops');
  if (form.id !== '' && !/^[A-Za-z0-9][A-Za-z0-9._:~-]{0,199}$/.test(form.id))
    fault('/external_id', 'letters, digits and . _ : ~ -, such as denver-1');
  if (form.name.trim() === '') fault('/name', 'a name is needed, so that you find it again');
  if (dwell_s !== null && !(dwell_s > 0 && dwell_s <= LONGEST_DWELL_S))
    fault('/dwell_s', 'minutes, at most those of a week, or nothing');
  if (form.shape === 'circle' && !(radius > 0)) fault('/radius_m', 'metres are needed');
  if (form.shape === 'circle' && !form.centre) fault('/geometry', 'choose a point on the map');
  if (form.shape === 'polygon' && !kept && form.corners.length < 3)
    fault('/geometry', 'three corners or more are needed');
  faults.push(...hoursFaults(form.hours), ...pairFaults(form.metadata, '/metadata'));
  const closed = [...form.corners, ...form.corners.slice(0, 1)].map(({ lon, lat }) => [lon, lat]);
  const shape =
    form.shape === 'circle'
      ? { center: form.centre, radius_m: radius }
      : { geometry: kept && fence ? fence.geometry : { type: 'Polygon', coordinates: [closed] } };
  const hours = hoursSent(form.hours);
  return {
    body: {
      ...shape,
      name: form.name.trim(),
      dwell_s,
      hours,
      // Without hours a zone says nothing; one that was said stays.
      time_zone: hours || fence?.time_zone ? form.zone : null,
      metadata: heldBy(form.metadata),
    },
    faults,
  };
}

const LONGEST_DWELL_S = 7 * 86_400;
