/** Near me: customers sorted by distance from my position, the middle of the map, or a typed point. */

import { useEffect, useState } from 'preact/hooks';
import { nearbyCustomers } from '../api/routes';
import type { NearbyCustomer } from '../api/shapes';
import { Arrow, Icon } from '../design/icons';
import { coordinates, count, counted, distance, wind } from '../format';
import { type Near, parsePoint, RADII_M } from '../state/model';
import { usePages } from '../state/remote';
import { isPhone, map } from '../state/screen';
import { filters, show, state } from '../state/store';
import { CustomerList, type ListRow } from './customer_list';
import { Empty } from './states';

const LIMIT = 20;

const FROM: Readonly<Record<Near['from'], string>> = {
  position: 'your position',
  map: 'the middle of the map',
  typed: 'the point you typed',
};

function centreOfMap(): Near | null {
  const view = map.value?.view();
  return view ? { lon: view.lon, lat: view.lat, from: 'map' } : null;
}

function askPosition(): Promise<Near> {
  return new Promise((resolve, reject) => {
    if (!('geolocation' in navigator)) {
      reject(new Error('This browser does not tell its position.'));
      return;
    }
    navigator.geolocation.getCurrentPosition(
      ({ coords }) => resolve({ lon: coords.longitude, lat: coords.latitude, from: 'position' }),
      (error) =>
        reject(
          new Error(
            error.code === error.PERMISSION_DENIED
              ? 'This page may not read your position.'
              : 'Your position could not be found.',
          ),
        ),
      { enableHighAccuracy: true, timeout: 10_000, maximumAge: 60_000 },
    );
  });
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
  const [refused, setRefused] = useState('');
  const [typed, setTyped] = useState('');
  const [typedWrong, setTypedWrong] = useState(false);

  const from = (origin: Near) => {
    show({ near: origin, customer: null });
    if (origin.from !== 'map') map.value?.reveal(origin, 13);
  };

  const usePosition = async () => {
    setAsking(true);
    setRefused('');
    try {
      from(await askPosition());
    } catch (error) {
      const centre = state.value.near ? null : centreOfMap();
      setRefused(
        `${error instanceof Error ? error.message : ''} ${centre ? 'Showing the middle of the map instead.' : ''}`,
      );
      if (centre) from(centre);
    } finally {
      setAsking(false);
    }
  };

  // asks once, when the panel opens without a point
  useEffect(() => {
    if (!near) void usePosition();
  }, []);

  const key = near ? JSON.stringify([near.lon, near.lat, radius_m, filters.value]) : null;
  const pages = usePages<NearbyCustomer>(key, (cursor, signal) =>
    nearbyCustomers(
      { lon: near?.lon ?? 0, lat: near?.lat ?? 0, radius_m, limit: LIMIT, cursor, filters: filters.value },
      signal,
    ),
  );
  const moved =
    near?.from === 'map' && view && Math.hypot(view.lon - near.lon, view.lat - near.lat) > 60 / 2 ** view.zoom;

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
          <button
            type="button"
            class="choice"
            aria-pressed={near?.from === 'map' && !moved}
            onClick={() => {
              const centre = centreOfMap();
              if (centre) from(centre);
            }}
          >
            <Icon name="here" />
            {moved ? 'Search this area' : 'Map centre'}
          </button>
        </div>
        {refused && (
          <p role="alert" class="small">
            {refused}
          </p>
        )}
        <details class="fold" open={!isPhone.value || typedWrong}>
          <summary>
            {near ? `From ${FROM[near.from]}, within ${distance(radius_m)}` : `Within ${distance(radius_m)}`}
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
                value={radius_m}
                onChange={(event) => show({ radius_m: Number(event.currentTarget.value) })}
              >
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
        <CustomerList
          pages={pages}
          what="customers near the point"
          rowOf={rowOf}
          summary={(shown, more) =>
            more ? `The nearest ${count(shown)}` : `${counted(shown, 'customer')} within ${distance(radius_m)}`
          }
          empty={
            <Empty title={`No customer within ${distance(radius_m)}`}>
              <p>Take a wider circle, another point, or fewer filters.</p>
              {radius_m < 100_000 && (
                <button type="button" class="button" onClick={() => show({ radius_m: 100_000 })}>
                  Search within 100 km
                </button>
              )}
            </Empty>
          }
        />
      </section>
    </div>
  );
}
