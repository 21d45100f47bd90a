/**
 * What a panel draws on the map: outlines, fences, a path with its fixes and events, and areas of any layer to see or to
 * pick from. Plain data, made into sources and layers of the style document. Pure.
 */

import type { Point } from '../state/model';
import type { LayerSpecification, SourceSpecification } from './map';

/** How a part of a sketch looks. */
export type Role =
  /** Where an offer holds. */
  | 'hold'
  /** The middle of a small place where it holds, to be seen from afar. */
  | 'hold-at'
  /** A fence; one that is open or entered. */
  | 'fence'
  | 'fence-on'
  /** How sure a fix is. */
  | 'blur'
  /** What is being drawn or walked, and its corners. */
  | 'path'
  | 'corner'
  /** Where the walker is, and what happened on the way. */
  | 'walker'
  | 'event';

export interface Part {
  readonly role: Role;
  readonly geometry: GeoJSON.Geometry;
  readonly label?: string;
}

/** Areas of a layer: the chosen ones stand out, all of them where one can be picked. */
export interface DrawnLayer {
  /** As the tiles name it. */
  readonly layer: string;
  readonly chosen: readonly string[];
  readonly picking: boolean;
}

export interface Sketch {
  readonly parts: readonly Part[];
  /** Parts that change many times a second. */
  readonly moving: readonly Part[];
  readonly layers: readonly DrawnLayer[];
  /** Customers are not drawn, so that what is stands out. */
  readonly alone: boolean;
}

export const NO_SKETCH: Sketch = { parts: [], moving: [], layers: [], alone: false };

export const SKETCH = 'sketch';
export const MOVING = 'sketch-moving';
/** Begins the ids of the layers that areas are picked from. */
export const PICK = 'pick-';

interface Inks {
  readonly accent: string;
  readonly ink: string;
  readonly halo: string;
  readonly surface: string;
}

/** Where a point lies in the styles of the library: the text of a property. */
const text = (property: string) => ['to-string', ['get', property]];

function sourceOf(parts: readonly Part[]): SourceSpecification {
  return {
    type: 'geojson',
    data: {
      type: 'FeatureCollection',
      features: parts.map(({ role, geometry, label }) => ({
        type: 'Feature',
        properties: { role, label: label ?? '' },
        geometry,
      })),
    },
  };
}

const still = new WeakMap<readonly Part[], SourceSpecification>();

/** Of the same parts the same source, so that what stands still costs nothing while something moves. */
function keptSource(parts: readonly Part[]): SourceSpecification {
  const kept = still.get(parts) ?? sourceOf(parts);
  still.set(parts, kept);
  return kept;
}

/** Sources of a sketch, by id. */
export function sketchSources(sketch: Sketch, origin: string, edition: number): Record<string, SourceSpecification> {
  const sources: Record<string, SourceSpecification> = {
    [SKETCH]: keptSource(sketch.parts),
    [MOVING]: sourceOf(sketch.moving),
  };
  for (const { layer } of sketch.layers) {
    sources[PICK + layer] = {
      type: 'vector',
      tiles: [`${origin}/tiles/areas/${layer}/{z}/{x}/{y}.mvt${edition > 0 ? `?edition=${edition}` : ''}`],
      maxzoom: 14,
    };
  }
  return sources;
}

/** Layers of a sketch: those of areas, to lie below customers, and all others, to lie above. */
export function sketchLayers(
  sketch: Sketch,
  inks: Inks,
): { readonly below: readonly LayerSpecification[]; readonly above: readonly LayerSpecification[] } {
  const below = sketch.layers.flatMap(({ layer, chosen, picking }) => areaLayers(layer, chosen, picking, inks));
  return { below: [...below, ...surfaces(inks)] as LayerSpecification[], above: points(inks) as LayerSpecification[] };
}

function areaLayers(layer: string, chosen: readonly string[], picking: boolean, inks: Inks): object[] {
  const area = { source: PICK + layer, 'source-layer': 'areas' };
  const isChosen = ['in', text('id'), ['literal', chosen]];
  return [
    {
      id: `${PICK}${layer}-fill`,
      type: 'fill',
      ...area,
      ...(picking ? {} : { filter: isChosen }),
      paint: { 'fill-color': inks.accent, 'fill-opacity': ['case', isChosen, 0.28, 0.04] },
    },
    {
      id: `${PICK}${layer}-line`,
      type: 'line',
      ...area,
      ...(picking ? {} : { filter: isChosen }),
      layout: { 'line-join': 'round' },
      paint: { 'line-color': inks.accent, 'line-width': ['case', isChosen, 3, 1] },
    },
  ];
}

const MOVES: readonly Role[] = ['blur', 'walker'];
const of = (role: Role) => ({ source: MOVES.includes(role) ? MOVING : SKETCH, filter: ['==', ['get', 'role'], role] });

function surfaces(inks: Inks): object[] {
  const fill = (role: Role, opacity: number) => ({
    id: `sketch-${role}-fill`,
    type: 'fill',
    ...of(role),
    paint: { 'fill-color': inks.accent, 'fill-opacity': opacity },
  });
  const line = (role: Role, colour: string, width: number, dash?: readonly number[]) => ({
    id: `sketch-${role}-line`,
    type: 'line',
    ...of(role),
    layout: { 'line-join': 'round', 'line-cap': dash ? 'butt' : 'round' },
    paint: { 'line-color': colour, 'line-width': width, ...(dash ? { 'line-dasharray': dash } : {}) },
  });
  return [
    fill('hold', 0.24),
    line('hold', inks.accent, 3),
    fill('fence', 0.1),
    line('fence', inks.ink, 1.5, [3, 2]),
    fill('fence-on', 0.34),
    line('fence-on', inks.accent, 3),
    fill('blur', 0.1),
  ];
}

function points(inks: Inks): object[] {
  const dot = (role: Role, radius: unknown, colour: string, ring: string, width: number) => ({
    id: `sketch-${role}`,
    type: 'circle',
    ...of(role),
    paint: {
      'circle-radius': radius,
      'circle-color': colour,
      'circle-stroke-color': ring,
      'circle-stroke-width': width,
    },
  });
  const label = (id: string, roles: readonly Role[], size: number, offset: readonly [number, number]) => ({
    id,
    type: 'symbol',
    source: SKETCH,
    filter: ['in', ['get', 'role'], ['literal', roles]],
    layout: {
      'text-field': ['get', 'label'],
      'text-font': ['sans-serif'],
      'text-size': size,
      'text-offset': offset,
      'text-allow-overlap': roles.includes('event'),
      'text-ignore-placement': roles.includes('event'),
    },
    paint: { 'text-color': inks.ink, 'text-halo-color': inks.halo, 'text-halo-width': 1.6 },
  });
  return [
    {
      id: 'sketch-path',
      type: 'line',
      ...of('path'),
      layout: { 'line-join': 'round', 'line-cap': 'round' },
      paint: { 'line-color': inks.accent, 'line-width': 3 },
    },
    dot('hold-at', 13, 'rgba(0,0,0,0)', inks.accent, 3),
    dot('corner', 4, inks.surface, inks.accent, 2.5),
    label('sketch-fence-labels', ['fence', 'fence-on'], 12, [0, -1.7]),
    dot('walker', 8, inks.accent, inks.halo, 3),
    // As wide as its numbers.
    dot('event', ['max', 11, ['*', 4, ['length', ['get', 'label']]]], inks.surface, inks.ink, 2),
    label('sketch-event-labels', ['event'], 12, [0, 0]),
  ];
}

/** What a shape takes of the circle of longitudes, piece by piece: from where, and how wide. */
type Span = readonly [from: number, width: number];

/**
 * The box [west, south, east, north] of shapes; null where there is none. Of the two ways around the earth the shorter:
 * what lies on both sides of ±180° has its east beyond 180.
 */
export function boxOfShapes(shapes: readonly GeoJSON.Geometry[]): readonly [number, number, number, number] | null {
  const spans: Span[] = [];
  let [south, north] = [90, -90];
  const take = (points: readonly (readonly number[])[]): void => {
    const lons = points.map(([lon = 0]) => lon);
    const west = lons.reduce((least, lon) => Math.min(least, lon), Number.POSITIVE_INFINITY);
    const east = lons.reduce((most, lon) => Math.max(most, lon), Number.NEGATIVE_INFINITY);
    if (west > east) return;
    spans.push([west - 360 * Math.floor((west + 180) / 360), east - west]);
    for (const [, lat = 0] of points) [south, north] = [Math.min(south, lat), Math.max(north, lat)];
  };
  const walk = (coordinates: unknown): void => {
    if (!Array.isArray(coordinates) || coordinates.length === 0) return;
    if (typeof coordinates[0] === 'number') take([coordinates as number[]]);
    else if (Array.isArray(coordinates[0]) && typeof coordinates[0][0] === 'number') take(coordinates as number[][]);
    else for (const inner of coordinates) walk(inner);
  };
  for (const shape of shapes) if (shape.type !== 'GeometryCollection') walk(shape.coordinates);
  const [west, east] = shortest(spans) ?? [180, -180];
  return west <= east && south <= north ? [west, south, east, north] : null;
}

/** West and east of the arc that holds all spans: all but the widest gap between them. */
function shortest(spans: readonly Span[]): readonly [number, number] | null {
  const sorted = spans.toSorted(([a], [b]) => a - b);
  const [first] = sorted;
  if (!first) return null;
  let reach = first[0] + first[1];
  let [gap, west, east] = [-1, first[0], reach];
  for (const [from, width] of sorted.slice(1)) {
    if (from - reach > gap) [gap, west, east] = [from - reach, from, reach + 360];
    reach = Math.max(reach, from + width);
  }
  return first[0] + 360 - reach >= gap ? [first[0], reach] : [west, east];
}

/** A point as GeoJSON has it. */
export const pointOf = ({ lon, lat }: Point): GeoJSON.Point => ({ type: 'Point', coordinates: [lon, lat] });

/** A path that is being drawn, with its corners. */
export function pathParts(path: readonly Point[], closed = false): readonly Part[] {
  const coordinates = path.map(({ lon, lat }) => [lon, lat]);
  if (closed && coordinates[0] && path.length > 2) coordinates.push(coordinates[0]);
  return [
    ...(coordinates.length > 1 ? [{ role: 'path', geometry: { type: 'LineString', coordinates } } as const] : []),
    ...path.map((point): Part => ({ role: 'corner', geometry: pointOf(point) })),
  ];
}
