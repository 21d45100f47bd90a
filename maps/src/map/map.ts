/**
 * The one object that owns the map, and the one file that knows the map library. State flows in as a `Scene`,
 * events flow out; what did not change is not sent again.
 */

import 'maplibre-gl/dist/maplibre-gl.css';
import {
  type ExpressionSpecification,
  type GeoJSONFeature,
  type GeoJSONSource,
  type LayerSpecification,
  Map as LibraryMap,
  type MapGeoJSONFeature,
  type MapMouseEvent,
  type SourceSpecification,
  type StyleSpecification,
  setWorkerUrl,
} from 'maplibre-gl';
import workerUrl from 'maplibre-gl/dist/maplibre-gl-worker.mjs?worker&url';
import type { Point, View } from '../state/model';
import { type Step, steps } from './changes';
import { clustersOf } from './clusters';
import { drawIcon } from './icons';
import { labelsOf, within } from './labels';
import { PICK } from './sketch';
import {
  AREAS,
  CUSTOMER_CLUSTERS,
  CUSTOMER_POINTS,
  CUSTOMER_SINGLES,
  CUSTOMERS,
  type Gathered,
  NOTHING,
  PLACES,
  type Scene,
  styleOf,
} from './style';
import { boxOf, type Cell, count, distinct, isSite, type Tally } from './tally';

export type { ExpressionSpecification, LayerSpecification, SourceSpecification, StyleSpecification };

setWorkerUrl(workerUrl);

/** [west, south, east, north] in degrees. */
export type Bounds = readonly [number, number, number, number];

export interface MapEvents {
  moved(view: View): void;
  /** Somebody moves the map by hand. */
  aimed(): void;
  customer(id: string): void;
  place(id: string): void;
  /** A click on an area of the layer that is picked from. */
  area(id: string, name: string): void;
  /** A click on a customer that stands alone in a cell of `across` degrees around the point. */
  single(point: Point, across: number): void;
  /** A click on nothing in particular, or a long press anywhere (`ask`). */
  point(point: Point, ask: boolean): void;
  /** What stands in the view; null where that is not known: tiles failed, or customers are not drawn. */
  tally(tally: Tally | null): void;
  /** Customers of the view are being loaded, or have been. */
  loading(now: boolean): void;
  trouble(source: string, status: number | null): void;
}

/** Reach of a tap in CSS pixels: half of the 44 that a finger needs, less for a mouse. A place is its icon. */
const REACH = { coarse: 22, fine: 7 } as const;
const PLACE_REACH = 12;
const LONG_PRESS_MS = 600;
/** How often clusters are drawn anew while tiles come in. */
const GATHER_MS = 250;
/** Cells along the side of a tile of customers. */
const CELLS = 64;
/** Pixels that controls on the map cover, on every side, and half a mark. */
const CONTROLS = { top: 64, right: 96, bottom: 48, left: 40 } as const;
/** The zoom at which a street and its neighbours are seen. */
const STREET_ZOOM = 15;
const EARTH_GIRTH_M = 40_075_016.7;

function setFlag(value: 'busy' | 'ready'): void {
  document.documentElement.dataset.map = value;
}

export class CustomerMap {
  private readonly map: LibraryMap;
  private readonly events: MapEvents;
  private drawn: StyleSpecification;
  private wanted: Scene;
  private loaded = false;
  private tallied = '';
  private gathered: Gathered = NOTHING;
  /** Tiles of customers failed since they were last asked for anew. */
  private failed = false;
  /** Once the tiles of the view are there, it narrows to what they hold. */
  private narrowing = false;
  private gathering: ReturnType<typeof setTimeout> | undefined;
  /** Pixels of the map that the search box and the sheet of a phone cover. */
  covered = { top: 0, bottom: 0 };

  constructor(container: HTMLElement, scene: Scene, start: View | Bounds, events: MapEvents) {
    this.events = events;
    this.wanted = scene;
    setFlag('busy');
    const style = styleOf(scene, window.location.origin);
    this.drawn = style;
    this.map = new LibraryMap({
      container,
      style,
      ...('zoom' in start
        ? { center: [start.lon, start.lat], zoom: start.zoom }
        : { bounds: [...start], fitBoundsOptions: { padding: 40, maxZoom: 14 } }),
      maxZoom: 19,
      minZoom: 1,
      attributionControl: { compact: true },
      dragRotate: false,
      pitchWithRotate: false,
      touchPitch: false,
      fadeDuration: matchMedia('(prefers-reduced-motion: reduce)').matches ? 0 : 150,
      locale: { 'Map.Title': 'Map of customers: arrow keys move it, plus and minus zoom' },
    });
    this.map.touchZoomRotate.disableRotation();
    this.map.keyboard.disableRotation();
    this.listen();
  }

  /** Draws a scene; an equal one costs a comparison. */
  show(scene: Scene): void {
    this.wanted = scene;
    if (!this.loaded) return;
    const style = styleOf(scene, window.location.origin, this.gathered);
    const todo = steps(this.drawn, style);
    if (todo.length === 0) return;
    this.drawn = style;
    setFlag('busy');
    for (const step of todo) this.apply(step);
  }

  private apply(step: Step): void {
    const { map } = this;
    if (step.do === 'remove layer') map.removeLayer(step.id);
    else if (step.do === 'remove source') {
      if (step.id === CUSTOMERS) this.failed = false;
      map.removeSource(step.id);
    } else if (step.do === 'add source') map.addSource(step.id, step.source);
    else if (step.do === 'add layer') map.addLayer(step.layer, step.before);
    else if (step.do === 'set data') map.getSource<GeoJSONSource>(step.id)?.setData(step.data);
    else if (step.do === 'set paint') map.setPaintProperty(step.id, step.name as never, step.value as never);
    else map.setLayoutProperty(step.id, step.name as never, step.value as never);
  }

  view(): View {
    const { lng, lat } = this.map.getCenter().wrap();
    return { lon: lng, lat, zoom: this.map.getZoom() };
  }

  /** The point in the middle of what panels leave free. */
  middle(): Point {
    const { clientWidth, clientHeight } = this.map.getCanvas();
    const { lng, lat } = this.map
      .unproject([clientWidth / 2, (clientHeight + this.covered.top - this.covered.bottom) / 2])
      .wrap();
    return { lon: lng, lat };
  }

  /** [west, south, east, north] of what is seen. */
  bounds(): Bounds {
    const b = this.map.getBounds();
    return [b.getWest(), b.getSouth(), b.getEast(), b.getNorth()];
  }

  /** [west, south, east, north] of what panels leave free. */
  free(): Bounds {
    const { clientWidth, clientHeight } = this.map.getCanvas();
    const corner = this.map.unproject([0, this.covered.top]);
    const opposite = this.map.unproject([clientWidth, clientHeight - this.covered.bottom]);
    return [corner.lng, opposite.lat, opposite.lng, corner.lat];
  }

  /** Moves to a view where the map stands elsewhere. */
  go(view: View, moving = true): void {
    const now = this.view();
    const same =
      Math.abs(now.lon - view.lon) < 1e-5 &&
      Math.abs(now.lat - view.lat) < 1e-5 &&
      Math.abs(now.zoom - view.zoom) < 0.01;
    if (same) return;
    const to = { center: [view.lon, view.lat] as [number, number], zoom: view.zoom };
    if (moving) this.map.easeTo({ ...to, duration: 500 });
    else this.map.jumpTo(to);
  }

  /** Pixels that are not free to show something in. */
  private padding(): { top: number; right: number; bottom: number; left: number } {
    const { clientWidth, clientHeight } = this.map.getCanvas();
    const top = CONTROLS.top + this.covered.top;
    const { right, left } = clientWidth < 480 ? { right: 80, left: 32 } : CONTROLS;
    // Where the sheet covers nearly everything, what is left of the map still gets a strip.
    const bottom = Math.min(CONTROLS.bottom + this.covered.bottom, Math.max(0, clientHeight - top - 40));
    return { top, right, bottom, left };
  }

  fit(bounds: Bounds, moving = true): void {
    this.map.fitBounds([bounds[0], bounds[1], bounds[2], bounds[3]], {
      padding: this.padding(),
      maxZoom: STREET_ZOOM,
      animate: moving,
      duration: 600,
    });
  }

  /** Shows what passes the filters: `bounds` hold it; their tiles tell where in them it is. */
  narrow(bounds: Bounds): void {
    this.fit(bounds, false);
    this.narrowing = true;
    this.map.triggerRepaint();
  }

  zoomBy(steps: number): void {
    this.events.aimed();
    this.map.zoomTo(this.map.getZoom() + steps, { duration: 250 });
  }

  /** Brings a point into what panels leave free of the map, at the present zoom. */
  reveal(point: Point): void {
    const { clientWidth, clientHeight } = this.map.getCanvas();
    const at = this.map.project([point.lon, point.lat]);
    const { top, right, bottom, left } = this.padding();
    const inside = at.x > left && at.x < clientWidth - right && at.y > top && at.y < clientHeight - bottom;
    if (!inside) this.centre(point, this.map.getZoom());
  }

  /** Brings a point so near that its street is seen, or the circle in which it lies where that is larger. */
  near(point: Point, precision_m: number | null): void {
    const { clientWidth, clientHeight } = this.map.getCanvas();
    const { top, right, bottom, left } = this.padding();
    const free = Math.max(40, Math.min(clientWidth - left - right, clientHeight - top - bottom));
    const girth_m = EARTH_GIRTH_M * Math.cos((point.lat * Math.PI) / 180);
    const fitting = Math.log2((girth_m * free) / (512 * 2 * Math.max(precision_m ?? 0, 1)));
    const zoom = fitting < STREET_ZOOM ? fitting : Math.max(this.map.getZoom(), STREET_ZOOM);
    this.centre(point, Math.max(zoom, 3));
  }

  private centre(point: Point, zoom: number): void {
    const { top, right, bottom, left } = this.padding();
    this.map.easeTo({
      center: [point.lon, point.lat],
      zoom,
      offset: [(left - right) / 2, (top - bottom) / 2],
      duration: 500,
    });
  }

  resize(): void {
    this.map.resize();
  }

  remove(): void {
    clearTimeout(this.gathering);
    this.map.remove();
  }

  private listen(): void {
    const { map } = this;
    map.setMissingStyleImageResolver((id) => {
      const icon = drawIcon(id);
      if (icon && !map.hasImage(id)) {
        map.addImage(id, { width: icon.width, height: icon.height, data: icon.data }, { pixelRatio: icon.pixelRatio });
      }
    });
    map.on('load', () => {
      this.loaded = true;
      // On a narrow screen the sources fold into their button.
      const { clientWidth } = map.getCanvas();
      if (clientWidth < 480) {
        map.getContainer().querySelector('.maplibregl-compact-show')?.classList.remove('maplibregl-compact-show');
      }
      this.show(this.wanted);
      this.events.moved(this.view());
    });
    map.on('movestart', (event) => {
      // Whoever moves the map wants to see what is there.
      if ('originalEvent' in event && event.originalEvent) {
        this.narrowing = false;
        this.events.aimed();
      }
      setFlag('busy');
    });
    map.on('moveend', () => this.events.moved(this.view()));
    map.on('sourcedataloading', (event) => {
      if (event.sourceId === CUSTOMERS) this.events.loading(true);
    });
    map.on('sourcedata', (event) => {
      if (event.sourceId !== CUSTOMERS || !event.tile) return;
      this.gathering ??= setTimeout(() => {
        this.gathering = undefined;
        if (this.loaded) this.gather();
      }, GATHER_MS);
    });
    map.on('idle', () => {
      clearTimeout(this.gathering);
      this.gathering = undefined;
      const features = this.gather();
      // What gathering changed is not drawn yet: the idle after the drawing tells it.
      if (map.isMoving() || !map.loaded()) return;
      this.tell(features);
      this.events.loading(false);
      const sought = this.narrowing && boxOf(features, this.cellSide() / 2);
      this.narrowing = false;
      if (sought) this.fit(sought);
      else setFlag('ready');
    });
    map.on('click', (event) => this.clicked(event));
    map.on('contextmenu', (event) => {
      event.preventDefault();
      this.events.point(this.pointOf(event), true);
    });
    map.on('mousemove', (event) => {
      const { asking } = this.wanted;
      if (this.picking()) map.getCanvas().style.cursor = 'pointer';
      else map.getCanvas().style.cursor = asking ? 'crosshair' : this.nearest(event, REACH.fine) ? 'pointer' : '';
    });
    map.on('error', (event) => {
      const failed = event as unknown as { sourceId?: string; error?: { status?: number } };
      if (failed.sourceId === CUSTOMERS) this.failed = true;
      this.events.trouble(failed.sourceId ?? '', failed.error?.status ?? null);
    });
    this.listenForLongPress();
  }

  private listenForLongPress(): void {
    const { map } = this;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = () => clearTimeout(timer);
    map.on('touchstart', (event) => {
      stop();
      if (event.originalEvent.touches.length !== 1) return;
      const point = { lon: event.lngLat.wrap().lng, lat: event.lngLat.lat };
      timer = setTimeout(() => this.events.point(point, true), LONG_PRESS_MS);
    });
    for (const name of ['touchend', 'touchcancel', 'touchmove', 'movestart'] as const) map.on(name, stop);
  }

  /** Degrees of longitude that a cell of the present tiles is wide. */
  private cellSide(): number {
    return 360 / 2 ** Math.floor(this.map.getZoom()) / CELLS;
  }

  private pointOf(event: MapMouseEvent): Point {
    const { lng, lat } = event.lngLat.wrap();
    return { lon: lng, lat };
  }

  /** The drawn customer or cluster nearest to a pointer, within `reach` pixels, or the place whose icon is nearer. */
  private nearest(event: MapMouseEvent, reach: number): MapGeoJSONFeature | null {
    const { x, y } = event.point;
    const layers = [CUSTOMER_POINTS, CUSTOMER_SINGLES, CUSTOMER_CLUSTERS, PLACES].filter((layer) =>
      this.map.getLayer(layer),
    );
    if (layers.length === 0) return null;
    const found = this.map.queryRenderedFeatures(
      [
        [x - reach, y - reach],
        [x + reach, y + reach],
      ],
      { layers },
    );
    let best: MapGeoJSONFeature | null = null;
    let bestDistance = Number.POSITIVE_INFINITY;
    for (const feature of found) {
      if (feature.geometry.type !== 'Point') continue;
      const [lon = 0, lat = 0] = feature.geometry.coordinates;
      const at = this.map.project([lon, lat]);
      const distance = Math.hypot(at.x - x, at.y - y);
      if (feature.layer.id === PLACES && distance > PLACE_REACH) continue;
      if (distance < bestDistance) [best, bestDistance] = [feature, distance];
    }
    return best;
  }

  /** The layer of the areas that a click picks from. */
  private picking(): string | null {
    const layer = this.wanted.sketch.layers.find(({ picking }) => picking);
    const id = layer && `${PICK}${layer.layer}-fill`;
    return id && this.map.getLayer(id) ? id : null;
  }

  private clicked(event: MapMouseEvent): void {
    const picking = this.picking();
    if (picking) {
      const [area] = this.map.queryRenderedFeatures(event.point, { layers: [picking] });
      if (area) this.events.area(String(area.properties.id ?? ''), String(area.properties.name ?? ''));
      return;
    }
    if (this.wanted.asking) {
      this.events.point(this.pointOf(event), false);
      return;
    }
    const coarse = matchMedia('(pointer: coarse)').matches;
    const feature = this.nearest(event, coarse ? REACH.coarse : REACH.fine);
    if (feature?.geometry.type !== 'Point') {
      this.events.point(this.pointOf(event), false);
      return;
    }
    const id = String(feature.properties.id ?? '');
    if (feature.layer.id === PLACES) this.events.place(id);
    else if (id) this.events.customer(id);
    else if (feature.layer.id === CUSTOMER_SINGLES) {
      const [lon = 0, lat = 0] = feature.geometry.coordinates;
      this.events.single({ lon, lat }, this.cellSide());
    } else {
      const [lon = 0, lat = 0] = feature.geometry.coordinates;
      this.map.easeTo({ center: [lon, lat], zoom: Math.min(this.map.getZoom() + 2.5, 18), duration: 400 });
    }
  }

  /** Gathers what the tiles hold: readable clusters, one name for each territory. Returns the customers' features. */
  private gather(): readonly Cell[] {
    const bounds = this.bounds();
    const features = distinct(
      this.features(CUSTOMERS, 'customers').flatMap(({ properties, geometry }) => {
        const [lon, lat] = geometry.type === 'Point' ? geometry.coordinates : [];
        return lon === undefined || lat === undefined ? [] : [{ lon, lat, properties }];
      }),
    );
    const cells = features.filter((feature) => !isSite(feature));
    const pieces = this.features(AREAS, 'areas').flatMap(({ properties, geometry }) => {
      if (geometry.type !== 'Polygon' && geometry.type !== 'MultiPolygon') return [];
      const polygons = geometry.type === 'Polygon' ? [geometry.coordinates] : geometry.coordinates;
      const rings = polygons.flatMap((polygon) => (polygon[0] ? [polygon[0]] : []));
      return [{ id: String(properties.id), name: String(properties.name ?? ''), rings }];
    });
    // Whoever never bought is in no segment; where they are many, they would hide the segments of all others.
    const { colour } = this.wanted;
    const deciding = colour === 'segment' ? 'keyed' : colour === 'score' ? 'middle' : 'most';
    this.gathered = { clusters: clustersOf(cells, this.map.getZoom(), deciding), labels: labelsOf(pieces, bounds) };
    this.show(this.wanted);
    return features;
  }

  /** Tells how many stand in the view, once all tiles are there. */
  private tell(features: readonly Cell[]): void {
    const bounds = this.bounds();
    const inView = features.filter(({ lon, lat }) => within(bounds, lon, lat));
    // Of customers that are not drawn no tiles are loaded.
    const unknown = this.failed || this.wanted.hidden.includes('customers');
    const seen = unknown ? null : count(inView, this.wanted.colour);
    const { filters, colour, score } = this.wanted;
    const digest = JSON.stringify([bounds, filters, colour, score, seen && [seen.total, seen.exact, [...seen.byKey]]]);
    if (digest === this.tallied) return;
    this.tallied = digest;
    this.events.tally(seen);
  }

  private features(source: string, sourceLayer: string): GeoJSONFeature[] {
    return this.map.getSource(source) ? this.map.querySourceFeatures(source, { sourceLayer }) : [];
  }
}
