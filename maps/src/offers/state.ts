/** What the panel of offers shares: when lists are asked for anew, what its pages draw on the map, the fences. */

import { signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import * as routes from '../api/routes';
import type { Fence, Offer, OfferWhere } from '../api/shapes';
import type { Bounds } from '../map/map';
import { boxOfShapes, type DrawnLayer, NO_SKETCH, type Part, type Sketch } from '../map/sketch';
import { circle } from '../map/style';
import type { Point } from '../state/model';
import { asProblem } from '../state/remote';
import { aimed, map, pick, sheet, sketch, tap } from '../state/screen';
import { company } from '../state/session';
import { show, state } from '../state/store';

/** Raised after an offer or a fence was written. */
export const stamp = signal(0);
export const written = (): void => {
  stamp.value += 1;
};

/** The offer that the open form of a new one has become: the form stays while the address is the offer's. */
export const made = signal<string | null>(null);

/** The version of an offer that its form has left to set live: its page asks for that. */
export const wantsLive = signal<Pick<Offer, 'id' | 'version'> | null>(null);

let chosen = false;

/** Whether a page brings what it is of into view: it was opened here, or its address had no view. */
export const framing = (): boolean => chosen || !aimed.value;

export function open(offer: string | null): void {
  chosen = true;
  if (sheet.value === 'peek') sheet.value = 'half';
  show({ offer });
}

/** Draws while the component stands; `parts` may be null while there is nothing to draw. */
export function useSketch(wanted: Sketch | null): void {
  const text = JSON.stringify(wanted);
  useEffect(() => {
    sketch.value = wanted ?? NO_SKETCH;
    return () => {
      sketch.value = NO_SKETCH;
    };
  }, [text]);
}

/** Takes clicks on the map while the component stands; null takes none. */
export function useTap(take: ((point: Point) => void) | null): void {
  useEffect(() => {
    tap.value = take;
    return () => {
      tap.value = null;
    };
  }, [take]);
}

/** Takes areas that are clicked on the map while the component stands. */
export function usePick(take: ((id: string, name: string) => void) | null): void {
  useEffect(() => {
    pick.value = take;
    return () => {
      pick.value = null;
    };
  }, [take]);
}

export interface Fences {
  readonly status: 'loading' | 'ready' | 'failed';
  readonly rows: readonly Fence[];
  readonly problem: ReturnType<typeof asProblem> | null;
}
/** All fences, as last asked for. */
export const fences = signal<Fences>({ status: 'loading', rows: [], problem: null });

let asked = -1;
export async function loadFences(again = false): Promise<void> {
  if (!again && asked === stamp.value && fences.value.status !== 'failed') return;
  asked = stamp.value;
  try {
    const rows = await routes.fences(new AbortController().signal);
    fences.value = { status: 'ready', rows, problem: null };
  } catch (error) {
    fences.value = { status: 'failed', rows: [], problem: asProblem(error) };
  }
}

/** How tiles name the layer of an id; null for one that is not known. */
export const tileLayer = (layer_id: string | null | undefined): string | null => {
  const layer = company.value.layers.find(({ id }) => id === layer_id);
  return layer ? `lay_${layer.key}` : null;
};

type Where = Partial<OfferWhere>;

/** Where there are more fences than are loaded at once, those of the view are asked for as it moves. */
export function useFencesInView(): void {
  const { rows } = fences.value;
  const many = rows.length >= routes.MOST_FENCES;
  const view = many ? JSON.stringify(state.value.view) : '';
  useEffect(() => {
    if (!many || !map.value) return;
    const aborter = new AbortController();
    const timer = setTimeout(() => {
      const [west, south, east, north] = map.value?.bounds() ?? [0, 0, 0, 0];
      // Over ±180° or around the earth they are too many anyway.
      if (west < -180 || east > 180 || map.value === null) return;
      routes.fencesIn([west, Math.max(south, -90), east, Math.min(north, 90)], aborter.signal).then(
        (found) => {
          const now = fences.value;
          const known = new Set(now.rows.map(({ id }) => id));
          const added = found.filter(({ id }) => !known.has(id));
          if (added.length > 0) fences.value = { ...now, rows: [...now.rows, ...added] };
        },
        // What is loaded stays.
        () => undefined,
      );
    }, PAUSE_MS);
    return () => {
      clearTimeout(timer);
      aborter.abort();
    };
  }, [many, view]);
}

const PAUSE_MS = 300;

/** Changes as the map moves, where not all fences can be drawn: then others are. */
export const drawnKey = (rows: readonly Fence[]): string =>
  rows.length > MOST_DRAWN ? JSON.stringify(state.value.view) : '';

export const NOTHING_ON: ReadonlySet<unknown> = new Set();

/** So many fences are drawn at a time: those that are entered, then those nearest to the middle of the map. */
const MOST_DRAWN = 150;

/** Fences as parts of a sketch; `on` are the ids of those that stand out. */
export function drawnFences(rows: readonly Fence[], on: ReadonlySet<unknown>): readonly Part[] {
  const middle = map.value?.middle();
  const far = ({ id, geometry }: Fence): number => {
    if (on.has(id) || !middle) return -1;
    const box = boxOfShapes([geometry as unknown as GeoJSON.Polygon]);
    return box ? Math.hypot((box[0] + box[2]) / 2 - middle.lon, (box[1] + box[3]) / 2 - middle.lat) : 0;
  };
  const near = rows.length > MOST_DRAWN ? rows.toSorted((a, b) => far(a) - far(b)).slice(0, MOST_DRAWN) : rows;
  return near.map((fence) => ({
    role: on.has(fence.id) ? 'fence-on' : 'fence',
    geometry: fence.geometry as unknown as GeoJSON.Polygon,
    label: fence.name ?? fence.external_id,
  }));
}

/** The outline of a circle around a point. */
export const ring = (centre: Point, radius_m: number): GeoJSON.Polygon => ({
  type: 'Polygon',
  coordinates: [circle(centre, radius_m)],
});

/** So many areas are looked up to bring them into view. */
const FEW = 25;

/** The box that holds where an offer holds; null where that is everywhere, or many areas. */
export async function boundsOf(areas: readonly Where[], signal: AbortSignal): Promise<Bounds | null> {
  const named = areas.filter((area) => area.area_id && area.layer_id);
  if (areas.length === 0 || named.length > FEW) return null;
  const outlines = await Promise.all(
    named.map(async ({ area_id, layer_id }) => {
      const version = company.value.layers.find(({ id }) => id === layer_id)?.current_version;
      if (!version) return null;
      const area = await routes.area(layer_id ?? '', version, area_id ?? '', signal);
      return area.geometry as unknown as GeoJSON.Geometry | null;
    }),
  );
  const drawn = holdSketch(areas).parts.map(({ geometry }) => geometry);
  return boxOfShapes([...outlines.filter((outline) => outline !== null), ...drawn]);
}

/** Where an offer holds: its areas by their tiles, the circles around its places, its fences. */
export function holdSketch(areas: readonly Where[], picking: string | null = null): Sketch {
  const chosen = new Map<string, string[]>();
  const parts: Part[] = [];
  for (const area of areas) {
    const layer = tileLayer(area.layer_id);
    if (area.area_id && layer) chosen.set(layer, [...(chosen.get(layer) ?? []), area.area_id]);
    else if (area.place_id || area.place_kind) {
      for (const place of company.value.places) {
        if (place.id !== area.place_id && place.kind !== area.place_kind) continue;
        if (!place.location) continue;
        const { lon, lat } = place.location;
        parts.push({ role: 'hold', geometry: ring(place.location, area.radius_m ?? 0) });
        parts.push({ role: 'hold-at', geometry: { type: 'Point', coordinates: [lon, lat] } });
      }
    } else if (area.geofence || area.geofence_tag) {
      for (const fence of fences.value.rows) {
        if (fence.tag === area.geofence_tag || `${fence.tag}/${fence.external_id}` === area.geofence)
          parts.push({ role: 'hold', geometry: fence.geometry as unknown as GeoJSON.Polygon });
      }
    }
  }
  const layers: DrawnLayer[] = [...chosen].map(([layer, ids]) => ({ layer, chosen: ids, picking: layer === picking }));
  if (picking && !chosen.has(picking)) layers.push({ layer: picking, chosen: [], picking: true });
  return { parts, moving: [], layers, alone: true };
}
