/** The map in its frame, with the few controls that float on it. State flows into the one object that owns the map. */

import { effect, untracked } from '@preact/signals';
import { useEffect, useRef, useState } from 'preact/hooks';
import { nearbyCustomers } from '../api/routes';
import { Icon } from '../design/icons';
import { kindOfPlace } from '../design/places';
import { theme } from '../design/theme';
import { count, counted, distance, wind } from '../format';
import { CustomerMap } from '../map/map';
import type { PlaceOnMap, Scene } from '../map/style';
import { loadTowns, orientation, type Town } from '../map/towns';
import { sample } from '../segments/state';
import { offline } from '../state/connection';
import { chosen, marks, painted, scopeOf, scored, territoryMarks } from '../state/legend';
import { isFiltered, originOf, type Point, type View } from '../state/model';
import { asProblem } from '../state/remote';
import {
  aimed,
  bring,
  covered,
  edition,
  found,
  isPhone,
  loading,
  map,
  open,
  opener,
  pick,
  place,
  type Spot,
  searched_m,
  sheet,
  sketch,
  spots,
  tally,
  tap,
  trouble,
} from '../state/screen';
import { askSession, company, loadCompany } from '../state/session';
import { clearFilters, customer, panel, show, state } from '../state/store';
import { SmallLegend } from './legend';
import './map_view.css';

const WORLD: View = { lon: -30, lat: 30, zoom: 1.6 };

function placesOnMap(): PlaceOnMap[] {
  return company.value.places.flatMap((place) =>
    place.location ? [{ id: place.id, name: place.name, kind: place.kind, ...place.location }] : [],
  );
}

/** The place whose note is open, to stand out. */
function spotOfPlace(): Spot[] {
  const shown = company.value.places.find((row) => row.id === place.value);
  return shown?.location ? [{ ...shown.location, precision_m: null }] : [];
}

/** Reads every signal that the map draws, so that an effect around it runs when one of them changes. */
function scene(): Scene {
  const now = state.value;
  return {
    theme: theme.value,
    colour: painted.value,
    score: scored.value && {
      field: `scores.${scored.value.segmentation.key}.${scored.value.name}`,
      cuts: scored.value.shades.cuts,
    },
    filters: now.filters,
    // The dots of a preview stand alone on the map.
    hidden: [
      ...now.hidden,
      ...(sample.value || sketch.value.alone ? (['customers'] as const) : []),
      ...(sample.value ? (['places'] as const) : []),
    ],
    sketch: sketch.value,
    sample: sample.value?.customers ?? [],
    marks: marks.value,
    territoryMarks: territoryMarks.value,
    territoryLayer: company.value.territoryLayer,
    places: placesOnMap(),
    selected: [...spots.value, ...spotOfPlace()],
    origin: originOf(now, searched_m.value),
    asked: now.panel === 'here' ? now.here : now.panel === 'offers' && now.offer === 'test' ? now.spot : null,
    asking: (now.panel === 'here' || tap.value !== null) && now.customer === null,
    found: now.panel === 'here' ? found.value : null,
    counties: (now.view?.zoom ?? 0) >= 5,
    edition: edition.value,
    base: company.value.base,
  };
}

const SLOW_MS = 300;

/** True once something has been going on for longer than a glance: what is quick needs no word. */
function useSlow(going: boolean): boolean {
  const [slow, setSlow] = useState(false);
  useEffect(() => {
    if (!going) {
      setSlow(false);
      return;
    }
    const timer = setTimeout(() => setSlow(true), SLOW_MS);
    return () => clearTimeout(timer);
  }, [going]);
  return going && slow;
}

function Tally() {
  const now = tally.value;
  const slow = useSlow(loading.value);
  const { filters, hidden } = state.value;
  const filtered = isFiltered(filters);
  if (hidden.includes('customers') || sample.value || sketch.value.alone || (!slow && !now))
    return <p class="tally" role="status" hidden />;
  const total = now?.total ?? 0;
  const said = total === 0 ? 'No customer sites' : counted(total, 'customer site');
  return (
    <div class={filtered ? 'tally filtered' : 'tally'} aria-busy={slow}>
      <p role="status">
        {slow ? 'Loading customers…' : said}
        {!slow && (
          <span class={filtered && isPhone.value ? 'hidden-visually' : undefined}>
            {' '}
            in view{filtered && ', filtered'}
          </span>
        )}
      </p>
      {filtered && (
        <button type="button" class="tally-clear" onClick={clearFilters}>
          Clear filters
        </button>
      )}
    </div>
  );
}

/** Asks again for what failed. */
function again(): void {
  trouble.value = null;
  edition.value += 1;
  if (company.value.status === 'failed') void loadCompany();
}

function Trouble() {
  const now = trouble.value;
  const gone = offline.value;
  // Back on the line, what failed meanwhile is asked for again.
  useEffect(() => {
    if (!gone && trouble.value && trouble.value.source !== 'webgl') again();
  }, [gone]);
  if (gone) {
    return (
      <div class="map-trouble" role="alert">
        <p>No connection. What is on the screen stays; the rest comes when you are connected again.</p>
      </div>
    );
  }
  if (!now) return null;
  if (now.source === 'webgl') {
    return (
      <div class="map-trouble" role="alert">
        <p>This browser cannot draw the map (it lacks WebGL 2). Near me, search and cards work without it.</p>
      </div>
    );
  }
  const what = now.source === 'customers' ? 'The customers' : now.source === 'areas' ? 'The territories' : 'The map';
  return (
    <div class="map-trouble" role="alert">
      <p>
        {what} cannot be drawn{now.status ? ` (the server answered ${count(now.status)})` : ''}.
      </p>
      <button type="button" class="button" onClick={again}>
        Try again
      </button>
    </div>
  );
}

/** Brings all customers into view, of filtered ones those that pass. */
export function showAll(): void {
  const bounds = company.value.bounds;
  if (!bounds) return;
  if (isFiltered(state.value.filters)) map.value?.narrow(bounds);
  else map.value?.fit(bounds);
}

/** Opens a customer's card. `from` is the row of a list that opened it; null for a click on the map. */
export function openCard(id: string, from: string | null): void {
  opener.value = from;
  bring.value = from === null ? 'visible' : 'near';
  place.value = null;
  if (sheet.value === 'peek') sheet.value = 'half';
  show({ customer: id });
}

/** Opens the card of the customer who stands alone in a cell of the tiles, which do not tell who it is. */
async function openSingle(point: Point, across: number): Promise<void> {
  const { filters } = state.value;
  try {
    // No corner of the cell is farther from its middle than this; a degree is at most 111.7 km.
    const radius_m = across * 111_700 * Math.SQRT1_2;
    const near = await nearbyCustomers(
      { ...point, radius_m, limit: 10, cursor: null, filters },
      new AbortController().signal,
    );
    const inside = ({ location: { lon } }: { location: Point }) => Math.abs(lon - point.lon) <= across / 2;
    const customer = near.data.find(inside) ?? near.data[0];
    if (customer) openCard(customer.id, null);
    else map.value?.near(point, radius_m);
  } catch (error) {
    trouble.value = { source: 'customers', status: asProblem(error).status || null };
  }
}

/** The map; null, and a trouble to read, where the browser cannot draw one. The lists work without it. */
function made(...arguments_: ConstructorParameters<typeof CustomerMap>): CustomerMap | null {
  try {
    return new CustomerMap(...arguments_);
  } catch {
    trouble.value = { source: 'webgl', status: null };
    return null;
  }
}

/** From this zoom on the view may lie between the names of towns. */
const TOWN_ZOOM = 10;

/** Where one is, once the view is so near that it holds no town's name. */
function Whereabouts() {
  const { view } = state.value;
  const [towns, setTowns] = useState<readonly Town[]>([]);
  const wanted = view !== null && view.zoom >= TOWN_ZOOM && company.value.status === 'ready' && !company.value.base;
  useEffect(() => {
    if (!wanted || towns.length > 0) return;
    // Without the names the map stands as well; the next time they are asked for again.
    loadTowns().then(setTowns, () => undefined);
  }, [wanted]);
  // Above a sheet that is drawn up there is no room for it.
  if (!wanted || !map.value || covered.value > window.innerHeight / 2) return null;
  const near = orientation(towns, map.value.free(), map.value.middle());
  if (!near) return null;
  return (
    <p class="whereabouts">
      {distance(near.distance_m)} {wind(near.bearing_deg)} of {near.name}
    </p>
  );
}

function PlaceNote() {
  const shown = company.value.places.find((row) => row.id === place.value);
  if (!shown) return null;
  return (
    <aside class="place-note" aria-label="Place">
      <div>
        <strong>{shown.name}</strong>
        <p class="small">
          {kindOfPlace(shown.kind)}
          {[shown.line1, shown.city].filter(Boolean).length > 0 &&
            ` · ${[shown.line1, shown.city].filter(Boolean).join(', ')}`}
        </p>
      </div>
      <button
        type="button"
        class="icon-button"
        aria-label="Close the note"
        onClick={() => {
          place.value = null;
        }}
      >
        <Icon name="close" />
      </button>
    </aside>
  );
}

export function MapView() {
  const frame = useRef<HTMLDivElement>(null);

  // Without a view in the address the map waits until it is known where the customers are.
  const known = state.value.view !== null || company.value.status !== 'loading';
  useEffect(() => {
    if (!frame.current || !known) return;
    const start = untracked(() => state.value.view ?? company.value.bounds ?? WORLD);
    const own = made(frame.current, untracked(scene), start, {
      moved: (view) => show({ view }, 'quiet'),
      aimed: () => {
        aimed.value = true;
      },
      customer: (id) => openCard(id, null),
      place: (id) => {
        place.value = id;
      },
      area: (id, name) => pick.value?.(id, name),
      single: (point, across) => void openSingle(point, across),
      point: (here, ask) => {
        place.value = null;
        if (tap.value && state.value.customer === null) {
          tap.value(here);
          return;
        }
        if (ask || state.value.panel === 'here') {
          if (isPhone.value && sheet.value === 'peek') sheet.value = 'half';
          show({ panel: 'here', here, customer: null });
        }
      },
      tally: (now) => {
        tally.value = now;
        if (now && chosen.value.length === 0) open.value = { scope: scopeOf(state.value), tally: now };
      },
      loading: (now) => {
        loading.value = now;
      },
      trouble: (source, status) => {
        if (status === 401) void askSession(true);
        else trouble.value = { source, status };
      },
    });
    if (!own) return;
    map.value = own;
    // A view in the address is what somebody wanted to show: the card leaves it where it is.
    if (untracked(() => state.value.view)) {
      bring.value = 'visible';
      aimed.value = true;
    }
    const stopScene = effect(() => own.show(scene()));
    const stopView = effect(() => {
      const view = state.value.view;
      if (view) own.go(view);
    });
    const observer = new ResizeObserver(() => own.resize());
    observer.observe(frame.current);
    return () => {
      observer.disconnect();
      stopScene();
      stopView();
      map.value = null;
      own.remove();
    };
  }, [known]);

  return (
    <section class="stage" aria-label="Map">
      <div class="map-frame" ref={frame} />
      <div class="map-floats">
        <Tally />
        <Trouble />
        <PlaceNote />
        <fieldset class="map-controls">
          <legend class="hidden-visually">Map controls</legend>
          <button type="button" class="map-control" aria-label="Zoom in" onClick={() => map.value?.zoomBy(1)}>
            <Icon name="plus" />
          </button>
          <button type="button" class="map-control" aria-label="Zoom out" onClick={() => map.value?.zoomBy(-1)}>
            <Icon name="minus" />
          </button>
          <button type="button" class="map-control" aria-label="Show all customers" onClick={showAll}>
            <Icon name="all" />
          </button>
        </fieldset>
      </div>
      {!isPhone.value &&
        !sketch.value.alone &&
        (customer.value !== null || (panel.value !== null && panel.value !== 'key')) && <SmallLegend />}
      <Whereabouts />
    </section>
  );
}
