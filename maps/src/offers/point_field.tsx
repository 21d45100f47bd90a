/** A point: clicked on the map, its middle, or typed. */

import { useState } from 'preact/hooks';
import { coordinates } from '../format';
import { loadTowns, spotWords } from '../map/towns';
import { type Point, parsePoint } from '../state/model';
import { useRemote } from '../state/remote';
import { isCoarse } from '../state/screen';
import { company } from '../state/session';
import { MapCentre } from './map_centre';

interface Props {
  id: string;
  point: Point | null;
  put: (point: Point) => void;
}

export function PointField({ id, point, put }: Props) {
  const [typed, setTyped] = useState('');
  const [wrong, setWrong] = useState(false);
  return (
    <div class="block">
      {point ? (
        <Spot point={point} />
      ) : (
        <p>{`${isCoarse.value ? 'Tap' : 'Click'} a point on the map, or take its middle.`}</p>
      )}
      <details class="fold" open={point === null || typed !== ''}>
        <summary>{point === null ? 'Without pointing' : 'Another point, without pointing'}</summary>
        <div class="pair">
          <MapCentre take={put} />
          <form
            class="field"
            onSubmit={(event) => {
              event.preventDefault();
              const read = parsePoint(typed);
              setWrong(read === null);
              if (read) put(read);
            }}
          >
            <label for={id}>Longitude, latitude</label>
            <input
              id={id}
              class="input"
              placeholder="-104.99, 39.74"
              value={typed}
              aria-invalid={wrong}
              aria-describedby={wrong ? `${id}-wrong` : undefined}
              onInput={(event) => setTyped(event.currentTarget.value)}
            />
          </form>
        </div>
      </details>
      {wrong && (
        <p id={`${id}-wrong`} role="alert" class="small wrong">
          Two numbers are needed, longitude first: -104.99, 39.74
        </p>
      )}
    </div>
  );
}

/** A point by the nearest shop or town, and by its coordinates. */
function Spot({ point }: { point: Point }) {
  const [towns] = useRemote(company.value.base ? null : 'towns', loadTowns);
  const shops = company.value.places.flatMap(({ name, location }) => (location ? [{ name, ...location }] : []));
  const named = [...shops, ...(towns.status === 'ready' ? towns.data : [])];
  return (
    <div>
      <p>{spotWords(named, point)}</p>
      <p class="small quiet">{coordinates(point.lon, point.lat)}</p>
    </div>
  );
}
