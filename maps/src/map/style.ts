/**
 * What the map draws, as a style document made from plain data: the basemap that needs no network, territories,
 * places, customers and marks. A pure file: the map compares two documents and changes only what differs.
 */

import { type Mark, OTHER } from '../design/palette';
import { type ColourKey, FILTER_FIELDS, type Filters, type Layer, type Point } from '../state/model';
import type { Cluster } from './clusters';
import type { Label } from './labels';
import type { ExpressionSpecification, LayerSpecification, StyleSpecification } from './map';
import { type Sketch, sketchLayers, sketchSources } from './sketch';

export type Theme = 'light' | 'dark' | 'sunlight';

interface Inks {
  readonly sea: string;
  readonly land: string;
  readonly border: string;
  readonly state: string;
  readonly county: string;
  readonly label: string;
  readonly labelQuiet: string;
  readonly halo: string;
  readonly surface: string;
  readonly ink: string;
  readonly accent: string;
}

export const INKS: Readonly<Record<Theme, Inks>> = {
  light: {
    sea: '#dbe7ee',
    land: '#f6f4ef',
    border: '#9aa3ad',
    state: '#b9bfc6',
    county: '#dcdcd8',
    label: '#3d4650',
    labelQuiet: '#5b6570',
    halo: '#ffffff',
    surface: '#ffffff',
    ink: '#17202a',
    accent: '#0b57a4',
  },
  dark: {
    sea: '#0d141b',
    land: '#1b242d',
    border: '#5d6a77',
    state: '#465360',
    county: '#2b3742',
    label: '#cfd8e1',
    labelQuiet: '#a3b0bd',
    halo: '#10171e',
    surface: '#141c24',
    ink: '#f1f5f9',
    accent: '#7cc0ff',
  },
  sunlight: {
    sea: '#c7dbe8',
    land: '#ffffff',
    border: '#3c4650',
    state: '#6b757f',
    county: '#b4bac0',
    label: '#000000',
    labelQuiet: '#1d252d',
    halo: '#ffffff',
    surface: '#ffffff',
    ink: '#000000',
    accent: '#00408a',
  },
};

/** A place to show: a shop of ours or a competitor's. */
export interface PlaceOnMap extends Point {
  readonly id: string;
  readonly name: string;
  readonly kind: string;
}

/** Everything the map draws. */
export interface Scene {
  readonly theme: Theme;
  readonly colour: ColourKey;
  /** With the colour `score`: which one, as the filter language names it, and where its shades begin. */
  readonly score: { readonly field: string; readonly cuts: readonly number[] } | null;
  readonly filters: Filters;
  readonly hidden: readonly Layer[];
  /** Marks of the keys of the present colour. */
  readonly marks: ReadonlyMap<string, Mark>;
  /** Marks of the territories, for their areas. */
  readonly territoryMarks: ReadonlyMap<string, Mark>;
  readonly territoryLayer: string | null;
  readonly places: readonly PlaceOnMap[];
  /** The sites of the customer whose card is open; the place whose note is open. */
  readonly selected: readonly (Point & { readonly precision_m: number | null })[];
  readonly origin: (Point & { readonly radius_m: number | null }) | null;
  readonly asked: Point | null;
  /** A click asks for the territory at the point, whatever stands there. */
  readonly asking: boolean;
  /** The territory that was found, to stand out. */
  readonly found: string | null;
  readonly counties: boolean;
  /** Raised after an edit, so that tiles are asked for again. */
  readonly edition: number;
  /** Customers of a sample with their groups' marks, drawn while a preview is open. */
  readonly sample: readonly (Point & { readonly mark: Mark })[];
  /** What a panel draws: where offers hold, fences, a walk. */
  readonly sketch: Sketch;
  /** A style document of the operator's own, drawn instead of the built-in basemap. */
  readonly base: StyleSpecification | null;
}

export const CUSTOMERS = 'customers';
export const CUSTOMER_POINTS = 'customer-points';
export const CUSTOMER_CLUSTERS = 'customer-clusters';
export const CUSTOMER_SINGLES = 'customer-singles';
export const AREAS = 'areas';
export const AREA_FILLS = 'area-fills';
export const PLACES = 'places';
export const SAMPLE = 'sample';

/** What the map gathered from the tiles of the view. */
export interface Gathered {
  readonly clusters: readonly Cluster[];
  readonly labels: readonly Label[];
}
export const NOTHING: Gathered = { clusters: [], labels: [] };

/** The name of the drawn icon of a mark; `map.ts` draws it when it is first needed. */
export const iconName = (mark: Mark, theme: Theme): string => `mark:${mark.shape}:${mark.colour}:${theme}`;
export const placeIcon = (kind: string, theme: Theme): string => `place:${kind}:${theme}`;

/** The path and query of the tiles of customers. */
export function customerTiles({
  filters,
  colour,
  score,
  edition,
}: Pick<Scene, 'filters' | 'colour' | 'score' | 'edition'>): string {
  const query = new URLSearchParams({ colour: score?.field ?? colour });
  if (score) query.set('cuts', score.cuts.join(','));
  for (const field of FILTER_FIELDS) if (filters[field].length > 0) query.set(field, filters[field].join(','));
  if (filters.where !== null) query.set('filter', filters.where);
  if (edition > 0) query.set('edition', String(edition));
  return `/tiles/customers/{z}/{x}/{y}.mvt?${query.toString().replaceAll('%2C', ',')}`;
}

/** `match` over the keys of a legend; a legend without keys gives the other's value. */
function byKey(
  input: ExpressionSpecification,
  marks: ReadonlyMap<string, Mark>,
  value: (mark: Mark) => string,
): ExpressionSpecification | string {
  if (marks.size === 0) return value(OTHER);
  const branches = [...marks].flatMap(([key, mark]) => [key, value(mark)]);
  return ['match', input, ...branches, value(OTHER)] as unknown as ExpressionSpecification;
}

const text = (property: string): ExpressionSpecification => ['to-string', ['get', property]];

const FONT = ['sans-serif'];
const FONT_BOLD = ['sans-serif'];

function basemap(inks: Inks, counties: boolean, origin: string): Pick<StyleSpecification, 'sources' | 'layers'> {
  const file = (name: string) => `${origin}/basemap/${name}.json`;
  const sources: StyleSpecification['sources'] = {
    land: { type: 'geojson', data: file('land'), tolerance: 0.5, attribution: 'Natural Earth · US Census · GeoNames' },
    lakes: { type: 'geojson', data: file('lakes'), tolerance: 0.5 },
    borders: { type: 'geojson', data: file('borders') },
    states: { type: 'geojson', data: file('states') },
    labels: { type: 'geojson', data: file('labels') },
  };
  const layers: LayerSpecification[] = [
    { id: 'sea', type: 'background', paint: { 'background-color': inks.sea } },
    { id: 'land', type: 'fill', source: 'land', paint: { 'fill-color': inks.land, 'fill-antialias': false } },
    { id: 'lakes', type: 'fill', source: 'lakes', paint: { 'fill-color': inks.sea, 'fill-antialias': false } },
    {
      id: 'states',
      type: 'line',
      source: 'states',
      minzoom: 2.5,
      paint: { 'line-color': inks.state, 'line-width': ['interpolate', ['linear'], ['zoom'], 3, 0.5, 9, 1.6] },
    },
    {
      id: 'borders',
      type: 'line',
      source: 'borders',
      paint: { 'line-color': inks.border, 'line-width': ['interpolate', ['linear'], ['zoom'], 1, 0.5, 8, 2] },
    },
  ];
  if (counties) {
    sources.counties = { type: 'geojson', data: file('counties') };
    layers.splice(3, 0, {
      id: 'counties',
      type: 'line',
      source: 'counties',
      minzoom: 5.5,
      paint: { 'line-color': inks.county, 'line-width': ['interpolate', ['linear'], ['zoom'], 6, 0.6, 11, 1.4] },
    });
  }
  return { sources, layers };
}

function names(inks: Inks): LayerSpecification[] {
  const named = (kind: string, from: number, to: number, size: ExpressionSpecification, quiet: boolean) =>
    ({
      id: `names-${kind}`,
      type: 'symbol',
      source: 'labels',
      minzoom: from,
      maxzoom: to,
      filter: ['all', ['==', ['get', 'kind'], kind], ['<=', ['get', 'rank'], ['+', ['zoom'], 0.5]]],
      layout: {
        'text-field': ['get', 'name'],
        'text-font': FONT,
        'text-size': size,
        'text-max-width': 7,
        'text-padding': 6,
        'symbol-sort-key': ['-', 0, ['get', 'size']],
      },
      paint: {
        'text-color': quiet ? inks.labelQuiet : inks.label,
        'text-halo-color': inks.halo,
        'text-halo-width': 1.4,
      },
    }) as LayerSpecification;
  return [
    named('town', 3, 24, ['interpolate', ['linear'], ['zoom'], 4, 10.5, 10, 14], false),
    named('state', 3.5, 7.5, ['interpolate', ['linear'], ['zoom'], 4, 10.5, 7, 14], true),
    named('country', 1, 6, ['interpolate', ['linear'], ['zoom'], 1, 10.5, 5, 15], false),
  ];
}

function territories(scene: Scene, inks: Inks): LayerSpecification[] {
  const visibility = scene.hidden.includes('territories') ? 'none' : 'visible';
  const colour = byKey(text('id'), scene.territoryMarks, (mark) => mark.colour);
  const strong = scene.colour === 'territory';
  return [
    {
      id: AREA_FILLS,
      type: 'fill',
      source: AREAS,
      'source-layer': 'areas',
      layout: { visibility },
      paint: { 'fill-color': colour, 'fill-opacity': strong ? 0.22 : 0.1 },
    },
    {
      id: 'area-lines',
      type: 'line',
      source: AREAS,
      'source-layer': 'areas',
      layout: { visibility, 'line-join': 'round' },
      paint: {
        'line-color': strong ? colour : inks.labelQuiet,
        'line-width': ['interpolate', ['linear'], ['zoom'], 3, 0.8, 8, 2.2],
        'line-opacity': 0.9,
      },
    },
    {
      id: 'area-found',
      type: 'line',
      source: AREAS,
      'source-layer': 'areas',
      filter: ['==', text('id'), scene.found ?? ''],
      layout: { visibility, 'line-join': 'round' },
      paint: { 'line-color': inks.accent, 'line-width': 4 },
    },
  ];
}

function territoryNames(scene: Scene, inks: Inks): LayerSpecification {
  return {
    id: 'area-names',
    type: 'symbol',
    source: 'area-names',
    minzoom: 4,
    layout: {
      visibility: scene.hidden.includes('territories') ? 'none' : 'visible',
      'text-field': ['get', 'name'],
      'text-font': FONT_BOLD,
      'text-size': ['interpolate', ['linear'], ['zoom'], 4, 11, 9, 15],
      'text-letter-spacing': 0.06,
      'text-transform': 'uppercase',
      'text-max-width': 8,
      'text-padding': 12,
    },
    paint: { 'text-color': inks.labelQuiet, 'text-halo-color': inks.halo, 'text-halo-width': 1.8 },
  };
}

function customers(scene: Scene, inks: Inks): LayerSpecification[] {
  const visibility = scene.hidden.includes('customers') ? 'none' : 'visible';
  const size: ExpressionSpecification = ['get', 'n'];
  const point = (property: string) => ({
    visibility: visibility as 'none' | 'visible',
    'icon-image': byKey(text(property), scene.marks, (mark) => iconName(mark, scene.theme)) as ExpressionSpecification,
    'icon-size': ['interpolate', ['linear'], ['zoom'], 12, 0.62, 15, 1] as ExpressionSpecification,
    'icon-allow-overlap': true,
    'icon-ignore-placement': true,
  });
  return [
    {
      // Drawn by nothing: it has the tiles loaded, of whose cells the clusters are made.
      id: 'customer-cells',
      type: 'circle',
      source: CUSTOMERS,
      'source-layer': 'customers',
      filter: ['!', ['has', 'id']],
      layout: { visibility },
      paint: { 'circle-radius': 0, 'circle-opacity': 0 },
    },
    {
      id: CUSTOMER_CLUSTERS,
      type: 'circle',
      source: CUSTOMER_CLUSTERS,
      filter: ['>', size, 1],
      layout: { visibility, 'circle-sort-key': ['-', 0, size] },
      paint: {
        'circle-color': inks.surface,
        'circle-radius': ['interpolate', ['linear'], ['ln', size], 0, 7, 2.3, 10, 4.6, 14, 6.9, 18, 9.2, 24, 14, 34],
        'circle-stroke-color': byKey(text('key'), scene.marks, (mark) => mark.colour),
        'circle-stroke-width': ['interpolate', ['linear'], ['ln', size], 0, 3, 4.6, 4, 9.2, 6],
      },
    },
    {
      id: 'customer-cell-counts',
      type: 'symbol',
      source: CUSTOMER_CLUSTERS,
      filter: ['>', size, 1],
      layout: {
        visibility,
        'text-field': [
          'case',
          ['>=', size, 1_000_000],
          ['concat', ['to-string', ['/', ['round', ['/', size, 100_000]], 10]], 'M'],
          ['>=', size, 10_000],
          ['concat', ['to-string', ['round', ['/', size, 1000]]], 'k'],
          ['>=', size, 1000],
          ['concat', ['to-string', ['/', ['round', ['/', size, 100]], 10]], 'k'],
          ['to-string', size],
        ],
        'text-font': FONT_BOLD,
        'text-size': ['interpolate', ['linear'], ['ln', size], 0, 10, 4.6, 12, 9.2, 14],
        'text-allow-overlap': true,
        'text-ignore-placement': true,
      },
      paint: { 'text-color': inks.ink },
    },
    {
      // A cell with one customer is a customer, not a cluster.
      id: CUSTOMER_SINGLES,
      type: 'symbol',
      source: CUSTOMER_CLUSTERS,
      filter: ['==', size, 1],
      layout: point('key'),
    },
    {
      id: CUSTOMER_POINTS,
      type: 'symbol',
      source: CUSTOMERS,
      'source-layer': 'customers',
      filter: ['has', 'id'],
      layout: point(scene.colour === 'score' ? 'shade' : scene.colour),
    },
  ];
}

function placeLayer(scene: Scene, inks: Inks): LayerSpecification {
  return {
    id: PLACES,
    type: 'symbol',
    source: PLACES,
    layout: {
      visibility: scene.hidden.includes('places') ? 'none' : 'visible',
      'icon-image': ['get', 'icon'],
      'icon-allow-overlap': true,
      'icon-size': ['interpolate', ['linear'], ['zoom'], 3, 0.55, 9, 1],
      'text-field': ['step', ['zoom'], '', 9, ['get', 'name']],
      'text-font': FONT,
      'text-size': 12,
      'text-offset': [0, 1.3],
      'text-anchor': 'top',
      'text-optional': true,
    },
    paint: { 'text-color': inks.label, 'text-halo-color': inks.halo, 'text-halo-width': 1.5 },
  };
}

/** The customers of a preview: small marks, so that two thousand of them leave the map to be seen. */
function sampleLayer(): LayerSpecification {
  return {
    id: SAMPLE,
    type: 'symbol',
    source: SAMPLE,
    layout: {
      'icon-image': ['get', 'icon'],
      'icon-size': ['interpolate', ['linear'], ['zoom'], 4, 0.42, 12, 0.75],
      'icon-allow-overlap': true,
      'icon-ignore-placement': true,
    },
  };
}

const EARTH_RADIUS_M = 6_371_008.8;

/** The circle of `radius_m` around a point on the sphere, as a ring of 96 steps that goes over ±180° unbroken. */
export function circle(centre: Point, radius_m: number): [number, number][] {
  const angle = radius_m / EARTH_RADIUS_M;
  const lat = (centre.lat * Math.PI) / 180;
  const ring: [number, number][] = [];
  for (let step = 0; step <= 96; step++) {
    const bearing = (step / 96) * 2 * Math.PI;
    const lat2 = Math.asin(Math.sin(lat) * Math.cos(angle) + Math.cos(lat) * Math.sin(angle) * Math.cos(bearing));
    const turn = Math.atan2(
      Math.sin(bearing) * Math.sin(angle) * Math.cos(lat),
      Math.cos(angle) - Math.sin(lat) * Math.sin(lat2),
    );
    ring.push([centre.lon + (turn * 180) / Math.PI, (lat2 * 180) / Math.PI]);
  }
  return ring;
}

/** From this radius on the circle in which a site lies is drawn: smaller ones hide under the mark. */
const ROUGH_M = 100;

function notes(scene: Scene): GeoJSON.FeatureCollection {
  const features: GeoJSON.Feature[] = [];
  const add = (role: string, geometry: GeoJSON.Geometry) =>
    features.push({ type: 'Feature', properties: { role }, geometry });
  if (scene.origin) {
    if (scene.origin.radius_m) {
      add('radius', { type: 'LineString', coordinates: circle(scene.origin, scene.origin.radius_m) });
    }
    add('origin', { type: 'Point', coordinates: [scene.origin.lon, scene.origin.lat] });
  }
  for (const spot of scene.selected) {
    if ((spot.precision_m ?? 0) >= ROUGH_M) {
      add('precision', { type: 'Polygon', coordinates: [circle(spot, spot.precision_m ?? 0)] });
    }
    add('selected', { type: 'Point', coordinates: [spot.lon, spot.lat] });
  }
  if (scene.asked) add('asked', { type: 'Point', coordinates: [scene.asked.lon, scene.asked.lat] });
  return { type: 'FeatureCollection', features };
}

function noteLayers(inks: Inks): LayerSpecification[] {
  return [
    {
      id: 'note-precision',
      type: 'line',
      source: 'notes',
      filter: ['==', ['get', 'role'], 'precision'],
      paint: { 'line-color': inks.accent, 'line-width': 2 },
    },
    {
      id: 'note-radius',
      type: 'line',
      source: 'notes',
      filter: ['==', ['get', 'role'], 'radius'],
      paint: { 'line-color': inks.accent, 'line-width': 2, 'line-dasharray': [2, 2] },
    },
    {
      id: 'note-origin',
      type: 'circle',
      source: 'notes',
      filter: ['==', ['get', 'role'], 'origin'],
      paint: {
        'circle-radius': 7,
        'circle-color': inks.accent,
        'circle-stroke-color': inks.halo,
        'circle-stroke-width': 3,
      },
    },
    {
      id: 'note-selected',
      type: 'circle',
      source: 'notes',
      filter: ['==', ['get', 'role'], 'selected'],
      paint: {
        'circle-radius': 16,
        'circle-color': 'rgba(0,0,0,0)',
        'circle-stroke-color': inks.accent,
        'circle-stroke-width': 4,
      },
    },
    {
      id: 'note-asked',
      type: 'circle',
      source: 'notes',
      filter: ['==', ['get', 'role'], 'asked'],
      paint: {
        // Full, so that it stands out from numbers and marks below it.
        'circle-radius': 7,
        'circle-color': inks.ink,
        'circle-stroke-color': inks.halo,
        'circle-stroke-width': 3,
      },
    },
  ];
}

function pointsOf<T extends Point>(
  rows: readonly T[],
  properties: (row: T) => GeoJSON.GeoJsonProperties,
): GeoJSON.FeatureCollection {
  return {
    type: 'FeatureCollection',
    features: rows.map((row) => ({
      type: 'Feature',
      properties: properties(row),
      geometry: { type: 'Point', coordinates: [row.lon, row.lat] },
    })),
  };
}

/** The whole style document of a scene. `origin` is the page's own origin: every address is on it. */
export function styleOf(scene: Scene, origin: string, gathered: Gathered = NOTHING): StyleSpecification {
  const inks = INKS[scene.theme];
  const ground = scene.base ?? basemap(inks, scene.counties, origin);
  const sources: StyleSpecification['sources'] = { ...ground.sources };
  const layers: LayerSpecification[] = [...ground.layers];
  if (scene.territoryLayer) {
    sources[AREAS] = {
      type: 'vector',
      tiles: [
        `${origin}/tiles/areas/${scene.territoryLayer}/{z}/{x}/{y}.mvt${scene.edition > 0 ? `?edition=${scene.edition}` : ''}`,
      ],
      maxzoom: 14,
    };
    sources['area-names'] = { type: 'geojson', data: pointsOf(gathered.labels, ({ name }) => ({ name })) };
    layers.push(...territories(scene, inks));
  }
  const { below, above } = sketchLayers(scene.sketch, inks);
  layers.push(...below);
  if (!scene.base) layers.push(...names(inks));
  if (scene.territoryLayer) layers.push(territoryNames(scene, inks));
  sources[PLACES] = {
    type: 'geojson',
    data: pointsOf(scene.places, ({ id, name, kind }) => ({ id, name, icon: placeIcon(kind, scene.theme) })),
  };
  sources[CUSTOMERS] = {
    type: 'vector',
    tiles: [origin + customerTiles(scene)],
    maxzoom: 17,
  };
  sources[CUSTOMER_CLUSTERS] = {
    type: 'geojson',
    data: pointsOf(gathered.clusters, ({ n, key }) => ({ n, key })),
  };
  sources[SAMPLE] = {
    type: 'geojson',
    data: pointsOf(scene.sample, ({ mark }) => ({ icon: iconName(mark, scene.theme) })),
  };
  sources.notes = { type: 'geojson', data: notes(scene) };
  Object.assign(sources, sketchSources(scene.sketch, origin, scene.edition));
  layers.push(placeLayer(scene, inks), ...customers(scene, inks), sampleLayer(), ...above);
  layers.push(...noteLayers(inks));
  return {
    version: 8,
    sources,
    layers,
    ...(scene.base?.glyphs ? { glyphs: scene.base.glyphs } : {}),
    ...(scene.base?.sprite ? { sprite: scene.base.sprite } : {}),
  };
}
