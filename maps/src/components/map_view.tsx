/** The map in its frame, with the few controls that float on it. State flows into the one object that owns the map. */

import { effect, untracked } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { Icon } from '../design/icons';
import { kindOfPlace } from '../design/places';
import { theme } from '../design/theme';
import { count, counted } from '../format';
import { CustomerMap } from '../map/map';
import type { PlaceOnMap, Scene } from '../map/style';
import { marks, territoryMarks } from '../state/legend';
import { isFiltered, type View } from '../state/model';
import { edition, isPhone, map, opener, place, sheet, spots, tally, trouble } from '../state/screen';
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

/** Reads every signal that the map draws, so that an effect around it runs when one of them changes. */
function scene(): Scene {
  const now = state.value;
  return {
    theme: theme.value,
    colour: now.colour,
    filters: now.filters,
    hidden: now.hidden,
    marks: marks.value,
    territoryMarks: territoryMarks.value,
    territoryLayer: company.value.territoryLayer,
    places: placesOnMap(),
    selected: spots.value,
    origin: now.panel === 'near' && now.near ? { ...now.near, radius_m: now.radius_m } : null,
    asked: now.panel === 'here' ? now.here : null,
    counties: (now.view?.zoom ?? 0) >= 5,
    edition: edition.value,
    base: company.value.base,
  };
}

function Tally() {
  const now = tally.value;
  const { filters, hidden } = state.value;
  const filtered = isFiltered(filters);
  if (!now || hidden.includes('customers')) return <p class="tally" role="status" hidden />;
  return (
    <div class="tally">
      <p role="status">
        {now.total === 0 ? 'No customer sites in view' : `${counted(now.total, 'customer site')} in view`}
        {filtered && ', filtered'}
      </p>
      {filtered && (
        <button type="button" class="tally-clear" onClick={clearFilters}>
          Clear filters
        </button>
      )}
    </div>
  );
}

function Trouble() {
  const now = trouble.value;
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
      <button
        type="button"
        class="button"
        onClick={() => {
          trouble.value = null;
          edition.value += 1;
          if (company.value.status === 'failed') void loadCompany();
        }}
      >
        Try again
      </button>
    </div>
  );
}

export function showAll(): void {
  const bounds = company.value.bounds;
  if (bounds) map.value?.fit(bounds);
}

export function openCard(id: string, from: string | null): void {
  opener.value = from;
  if (sheet.value === 'peek') sheet.value = 'half';
  show({ customer: id });
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
      customer: (id) => openCard(id, null),
      place: (id) => {
        place.value = id;
      },
      point: (here, ask) => {
        if (ask || state.value.panel === 'here') {
          if (isPhone.value && sheet.value === 'peek') sheet.value = 'half';
          show({ panel: 'here', here, customer: null });
        }
      },
      tally: (now) => {
        tally.value = now;
      },
      trouble: (source, status) => {
        if (status === 401) void askSession();
        else trouble.value = { source, status };
      },
    });
    if (!own) return;
    map.value = own;
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
      <Tally />
      <Trouble />
      <PlaceNote />
      {!isPhone.value && (customer.value !== null || (panel.value !== null && panel.value !== 'key')) && (
        <SmallLegend />
      )}
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
    </section>
  );
}
