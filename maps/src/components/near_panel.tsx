/** Near me: customers sorted by distance from my position, the middle of the map, or a typed point. */

import { useEffect, useRef, useState } from 'preact/hooks';
import { nearbyCustomers } from '../api/routes';
import type { NearbyCustomer } from '../api/shapes';
import { Arrow, Icon } from '../design/icons';
import { coordinates, count, counted, distance, wind } from '../format';
import type { Bounds } from '../map/map';
import { FIRST_RADIUS_M, isFiltered, type Near, type Point, parsePoint, RADII_M, reaching } from '../state/model';
import { usePages } from '../state/remote';
import { isPhone, map, searched_m } from '../state/screen';
import { clearFilters, filters, show, state } from '../state/store';
import { CustomerList, type ListRow } from './customer_list';
import { Empty } from './states';

const LIMIT = 20;
/** How many of the nearest are brought into view with the point. */
const IN_VIEW = 8;

const FROM: Readonly<Record<Near['from'], string>> = {
  position: 'your position',
  map: 'the middle of the map',
  typed: 'the point you typed',
};

function centreOfMap(): Near | null {
  const middle = map.value?.middle();
  return middle ? { ...middle, from: 'map' } : null;
}

/** Why there is no position, and what to do about it. */
const NO_POSITION = {
  insecure:
    'Browsers tell a page where you are on an encrypted connection only. Open this page with https, or search around the middle of the map.',
  denied:
    'This page may not read your position. Allow it in the settings of this site (beside the address) and press My position again, or search around the middle of the map.',
  lost: 'Your position could not be found. Try again under the open sky, or search around the middle of the map.',
  none: 'This browser does not tell its position. Search around the middle of the map.',
} as const;
type NoPosition = keyof typeof NO_POSITION;

/** The position of this device; else why there is none. */
function askPosition(): Promise<Near | NoPosition> {
  if (!window.isSecureContext) return Promise.resolve('insecure');
  if (!('geolocation' in navigator)) return Promise.resolve('none');
  return new Promise((resolve) => {
    navigator.geolocation.getCurrentPosition(
      ({ coords }) => resolve({ lon: coords.longitude, lat: coords.latitude, from: 'position' }),
      (error) => resolve(error.code === error.PERMISSION_DENIED ? 'denied' : 'lost'),
      { enableHighAccuracy: true, timeout: 10_000, maximumAge: 60_000 },
    );
  });
}

/** The box around a point and the customers found near it; longitudes go over ±180° unbroken. */
function around(origin: Point, rows: readonly NearbyCustomer[]): Bounds {
  const lons = [origin.lon, ...rows.map(({ location: { lon } }) => lon + 360 * Math.round((origin.lon - lon) / 360))];
  const lats = [origin.lat, ...rows.map(({ location }) => location.lat)];
  return [Math.min(...lons), Math.min(...lats), Math.max(...lons), Math.max(...lats)];
}

function rowOf(found: NearbyCustomer): ListRow {
  const towards = found.bearing_deg === null || found.bearing_deg === undefined ? '' : wind(found.bearing_deg);
  const rough = (found.precision_m ?? 0) > 250 ? ` · place ± ${distance(found.precision_m ?? 0)}` : '';
  return {
    id: found.id,
    row: found.site_id,
    name: found.name,
    stage: found.stage ?? null,
    detail: `${found.territory?.name ?? 'no territory'}${rough}`,
    aside: (
      <>
        <span>{distance(found.distance_m)}</span>
        {towards && <span class="hidden-visually">{towards}</span>}
        {towards && <Arrow bearing_deg={found.bearing_deg ?? 0} />}
      </>
    ),
  };
}

export function NearPanel() {
  const { near, radius_m, view } = state.value;
  const [asking, setAsking] = useState(false);
  const [refused, setRefused] = useState<NoPosition | null>(null);
  const [typed, setTyped] = useState('');
  const [typedWrong, setTypedWrong] = useState(false);
  // A new point is brought into view with those around it; a view in the address stays.
  const toFit = useRef(state.value.view === null);

  const from = (origin: Near) => {
    toFit.current = true;
    show({ near: origin, customer: null });
  };
  const fromCentre = () => {
    const centre = centreOfMap();
    setRefused(null);
    if (centre) from(centre);
  };
  const usePosition = async () => {
    setAsking(true);
    setRefused(null);
    const answer = await askPosition();
    if (typeof answer === 'string') setRefused(answer);
    else from(answer);
    setAsking(false);
  };

  // asks once, when the panel opens without a point
  useEffect(() => {
    if (!near) void usePosition();
  }, []);

  const key = near ? JSON.stringify([near.lon, near.lat, radius_m, filters.value]) : null;
  const pages = usePages<NearbyCustomer>(key, async (cursor, signal) => {
    const origin = near ?? { lon: 0, lat: 0 };
    const ask = (radius: number | null, limit: number) =>
      nearbyCustomers({ ...origin, radius_m: radius, limit, cursor, filters: filters.value }, signal);
    if (cursor !== null) return ask(searched_m.value, LIMIT);
    let reach = radius_m;
    if (reach === null) {
      const [nearest] = (await ask(null, 1)).data;
      reach = nearest ? reaching(nearest.distance_m) : null;
    }
    const page = await ask(reach, LIMIT);
    if (!signal.aborted) searched_m.value = reach;
    return page;
  });
  const reach = searched_m.value;
  const rows = pages.remote.status === 'ready' ? pages.remote.data : null;
  const widened = radius_m === null && reach !== FIRST_RADIUS_M;
  useEffect(() => {
    if (!near || !rows || !map.value || !toFit.current) return;
    toFit.current = false;
    // Around the middle of the map one sees already what is found, unless it is far away.
    if (near.from !== 'map' || widened) map.value.fit(around(near, rows.slice(0, IN_VIEW)));
  }, [rows === null, key, map.value]);

  const middle = view && map.value ? map.value.middle() : null;
  const moved =
    near?.from === 'map' &&
    view &&
    middle &&
    Math.hypot(middle.lon - near.lon, middle.lat - near.lat) > 60 / 2 ** view.zoom;
  const within = reach === null ? 'however far' : `within ${distance(reach)}`;

  return (
    <div class="blocks">
      <section class="block" aria-label="From where">
        <div class="choices">
          <button
            type="button"
            class="choice"
            aria-pressed={near?.from === 'position'}
            disabled={asking}
            onClick={() => void usePosition()}
          >
            <Icon name="locate" />
            {asking ? 'Asking for your position…' : 'My position'}
          </button>
          <button type="button" class="choice" aria-pressed={near?.from === 'map' && !moved} onClick={fromCentre}>
            <Icon name="here" />
            {moved ? 'Search this area' : 'Map centre'}
          </button>
        </div>
        {refused && (
          <div role="alert" class="notice">
            <p>{NO_POSITION[refused]}</p>
            <button type="button" class="button" onClick={fromCentre}>
              Search around the map’s middle
            </button>
          </div>
        )}
        <details class="fold" open={!isPhone.value || typedWrong}>
          <summary>
            {near ? `From ${FROM[near.from]}, ${rows ? within : 'searching…'}` : 'Another point, or how far'}
          </summary>
          <div class="pair">
            <form
              class="field"
              onSubmit={(event) => {
                event.preventDefault();
                const point = parsePoint(typed);
                setTypedWrong(point === null);
                if (point) from({ ...point, from: 'typed' });
              }}
            >
              <label for="near-typed">Longitude, latitude</label>
              <input
                id="near-typed"
                class="input"
                inputMode="text"
                placeholder="-104.99, 39.74"
                value={typed}
                aria-invalid={typedWrong}
                aria-describedby={typedWrong ? 'near-typed-wrong' : undefined}
                onInput={(event) => setTyped(event.currentTarget.value)}
              />
            </form>
            <div class="field">
              <label for="near-radius">Within</label>
              <select
                id="near-radius"
                class="input"
                value={radius_m ?? ''}
                onChange={(event) => {
                  toFit.current = true;
                  show({ radius_m: Number(event.currentTarget.value) || null });
                }}
              >
                <option value="">As needed</option>
                {RADII_M.map((radius) => (
                  <option key={radius} value={radius}>
                    {distance(radius)}
                  </option>
                ))}
              </select>
            </div>
          </div>
          {near && <p class="small quiet">{coordinates(near.lon, near.lat)}</p>}
          {typedWrong && (
            <p id="near-typed-wrong" class="small wrong" role="alert">
              Write two numbers in degrees: longitude (−180 to 180), then latitude (−90 to 90).
            </p>
          )}
        </details>
      </section>
      <section class="block" aria-label="Customers near the point">
        {rows && rows.length > 0 && widened && (
          <p role="status" class="notice">
            Nobody within {distance(FIRST_RADIUS_M)}; showing {reach === null ? 'the nearest' : within}.
          </p>
        )}
        <CustomerList
          pages={pages}
          what="customers near the point"
          rowOf={rowOf}
          summary={(shown, more) =>
            more ? `The nearest ${count(shown)}` : `${counted(shown, 'customer site')}, ${within}`
          }
          empty={
            radius_m === null ? (
              <Empty
                title={isFiltered(filters.value) ? 'No customer passes the filters' : 'No customers on the map yet'}
              >
                {isFiltered(filters.value) && (
                  <button type="button" class="button" onClick={clearFilters}>
                    Clear filters
                  </button>
                )}
              </Empty>
            ) : (
              <Empty title={`No customer within ${distance(radius_m)}`}>
                <p>Take a wider circle, another point, or fewer filters.</p>
                <button
                  type="button"
                  class="button"
                  onClick={() => {
                    toFit.current = true;
                    show({ radius_m: null });
                  }}
                >
                  Search as far as needed
                </button>
              </Empty>
            )
          }
        />
      </section>
    </div>
  );
}
