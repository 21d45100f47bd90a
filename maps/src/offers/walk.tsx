/** A walk drawn on the map, and the events that a phone on it would make; nothing of it is stored. */

import { signal } from '@preact/signals';
import { useCallback, useEffect, useMemo, useState } from 'preact/hooks';
import * as routes from '../api/routes';
import type { WalkEvent } from '../api/shapes';
import { Empty, Failed, Loading } from '../components/states';
import { counted, distance } from '../format';
import { boxOfShapes, NO_SKETCH, type Part, pathParts, pointOf } from '../map/sketch';
import { may, usePreview } from '../segments/state';
import type { Point } from '../state/model';
import { aimed, isCoarse, map, sketch } from '../state/screen';
import { state } from '../state/store';
import { MapCentre } from './map_centre';
import { drawnFences, drawnKey, fences, loadFences, open, ring, useFencesInView, useTap } from './state';
import {
  apart,
  durationOf,
  type Fix,
  fixesOf,
  lasting,
  lengthOf,
  numbered,
  pixel_m,
  placeAt,
  spacing,
  sureness,
  type Walk,
} from './walks';

const START: Walk = { path: [], speed: 5 / 3.6, every_s: 20, rest_s: 0, accuracy_m: 10, seed: 1 };
/** The walk stays while one looks at something else. */
const drawn = signal<Walk>(START);

const SPEEDS = [
  { value: 5 / 3.6, name: 'On foot, 5 km/h' },
  { value: 16 / 3.6, name: 'By bicycle, 16 km/h' },
  { value: 40 / 3.6, name: 'In town by car, 40 km/h' },
  { value: 100 / 3.6, name: 'On the highway, 100 km/h' },
];
const ACCURACIES = [5, 10, 20, 50, 100, 300].map((value) => ({ value, name: `± ${value} m` }));
const INTERVALS = [5, 10, 20, 60, 300].map((value) => ({ value, name: `Every ${lasting(value)}` }));
const RESTS = [0, 60, 180, 300, 900, 3600].map((value) => ({
  value,
  name: value === 0 ? 'Without a stop' : lasting(value),
}));

export function WalkPanel() {
  const walk = drawn.value;
  const add = useCallback((point: Point) => {
    drawn.value = { ...drawn.value, path: [...drawn.value.path, point] };
  }, []);
  useTap(add);
  useEffect(() => void loadFences(), []);
  useFencesInView();
  const { status } = fences.value;
  useEffect(() => {
    if (!aimed.value && status === 'ready' && isFar()) toNearest();
  }, [status, map.value]);
  const change = (part: Partial<Walk>) => {
    drawn.value = { ...drawn.value, ...part };
  };
  const fixes = useMemo(() => fixesOf(walk), [walk]);
  const question = fixes.length > 0 ? JSON.stringify(walk) : null;
  const { data, problem, asking } = usePreview(question, (abort) => replay(fixes, walk.accuracy_m, abort));
  const events = question !== null && !asking && data?.of === question ? data.events : null;
  return (
    <>
      <section class="block" aria-labelledby="offers-title">
        <h2 id="offers-title" class="large" tabIndex={-1}>
          Try a walk
        </h2>
        <p>
          {`${isCoarse.value ? 'Tap' : 'Click'} on the map, corner by corner: which events would a phone on this way make?`}
        </p>
        <p class="small quiet">Nothing is stored, and nobody is told.</p>
        <div class="row-actions">
          <MapCentre take={add} />
          {walk.path.length === 0 && isFar() && fences.value.rows.length > 0 && (
            <button type="button" class="button" onClick={toNearest}>
              To the nearest fence
            </button>
          )}
          <button
            type="button"
            class="button"
            disabled={walk.path.length === 0}
            onClick={() => change({ path: walk.path.slice(0, -1) })}
          >
            Undo
          </button>
          <button type="button" class="button" disabled={walk.path.length === 0} onClick={() => change({ path: [] })}>
            Clear
          </button>
        </div>
        <p role="status" class="small">
          {walk.path.length < 2
            ? `${counted(walk.path.length, 'corner')}; two make a walk.`
            : `${counted(walk.path.length, 'corner')}, ${distance(lengthOf(walk.path))} in ${lasting(durationOf(walk))}, ${counted(fixes.length, 'position')}.`}
        </p>
        {walk.path.length >= 2 && spacing(walk) > walk.every_s && (
          <p class="small">{`The walk is long: a position every ${lasting(spacing(walk))} only.`}</p>
        )}
      </section>
      <section class="block" aria-label="How">
        <div class="pair">
          <Choice
            id="walk-speed"
            label="Speed"
            options={SPEEDS}
            value={walk.speed}
            put={(speed) => change({ speed })}
          />
          <Choice
            id="walk-accuracy"
            label="Accuracy"
            options={ACCURACIES}
            value={walk.accuracy_m}
            put={(accuracy_m) => change({ accuracy_m })}
          />
          <Choice
            id="walk-every"
            label="Positions"
            options={INTERVALS}
            value={walk.every_s}
            put={(every_s) => change({ every_s })}
          />
          <Choice
            id="walk-rest"
            label="Stay at each corner"
            options={RESTS}
            value={walk.rest_s}
            put={(rest_s) => change({ rest_s })}
          />
        </div>
        <div class="chosen">
          <p class="small quiet">A phone never knows exactly where it is: each position is a little off, by chance.</p>
          <button type="button" class="button" onClick={() => change({ seed: walk.seed + 1 })}>
            Once more
          </button>
        </div>
      </section>
      <FencesSaid />
      {problem && <Failed problem={problem} />}
      {question !== null && !problem && events === null && <Loading what="the events" lines={3} />}
      <Replay key={events === null ? 'none' : question} walk={walk} fixes={fixes} events={events} />
    </>
  );
}

/** From farther away a fence around a shop is no larger than its mark. */
const SEEN_ZOOM = 12;
const isFar = (): boolean => (state.value.view?.zoom ?? 0) < SEEN_ZOOM;

/** Brings the fence nearest to the middle of the map into view, with its surroundings. */
function toNearest(): void {
  const middle = map.value?.middle();
  if (!middle) return;
  const boxes = fences.value.rows.flatMap(({ geometry }) => {
    const box = boxOfShapes([geometry as unknown as GeoJSON.Polygon]);
    return box ? [{ box, far_m: apart(middle, { lon: (box[0] + box[2]) / 2, lat: (box[1] + box[3]) / 2 }) }] : [];
  });
  const nearest = boxes.reduce<(typeof boxes)[number] | null>(
    (best, one) => (best && best.far_m <= one.far_m ? best : one),
    null,
  );
  if (!nearest) return;
  const [west, south, east, north] = nearest.box;
  const [wide, high] = [east - west, north - south];
  map.value?.fit([west - wide, Math.max(south - high, -85), east + wide, Math.min(north + high, 85)]);
}

/** What the API says of the fixes, and of which walk it says it. */
async function replay(fixes: readonly Fix[], accuracy_m: number, abort: AbortSignal) {
  const of = JSON.stringify(drawn.value);
  const start = Date.now();
  const positions = fixes.map(({ lon, lat, at_s }) => ({
    lon,
    lat,
    accuracy_m,
    recorded_at: new Date(start + at_s * 1000).toISOString(),
  }));
  const { data } = await routes.replayWalk({ positions, tags: [] }, abort);
  return { of, events: data };
}

interface ChoiceProps {
  id: string;
  label: string;
  options: readonly { readonly value: number; readonly name: string }[];
  value: number;
  put: (value: number) => void;
}

function Choice({ id, label, options, value, put }: ChoiceProps) {
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select
        id={id}
        class="input"
        value={String(options.findIndex((option) => option.value === value))}
        onChange={(event) => put(options[Number(event.currentTarget.value)]?.value ?? value)}
      >
        {options.map(({ name }, place) => (
          <option key={name} value={String(place)}>
            {name}
          </option>
        ))}
      </select>
    </div>
  );
}

function FencesSaid() {
  const { status, rows, problem } = fences.value;
  if (status === 'failed' && problem) return <Failed problem={problem} again={() => void loadFences(true)} />;
  if (rows.length >= routes.MOST_FENCES)
    return <p class="small quiet">Of the fences those near the middle of the map are drawn; all of them count.</p>;
  if (status === 'loading' || rows.length > 0) return null;
  return (
    <Empty title="There are no fences yet">
      <p>Without a fence a walk makes no event.</p>
      {may('geofences:write') && (
        <button type="button" class="button" onClick={() => open('fences')}>
          Draw a fence
        </button>
      )}
    </Empty>
  );
}

const KINDS: Readonly<Record<string, string>> = {
  'geofence.entered': 'Entered',
  'geofence.exited': 'Left',
  'geofence.dwelled': 'Stayed in',
};

interface Fenced {
  readonly id?: unknown;
  readonly name?: unknown;
  readonly tag?: unknown;
  readonly external_id?: unknown;
}
const nameOf = ({ name, tag, external_id }: Fenced): string =>
  typeof name === 'string' && name !== '' ? name : `${tag}/${external_id}`;

/** The mark of an event on the map is so wide. */
const MARK_PX = 26;

const FRAME_MS = 120;
/** A replay takes this long, however long the walk. */
const REPLAY_MS = 9_000;

interface ReplayProps {
  walk: Walk;
  fixes: readonly Fix[];
  /** null while they are not known. */
  events: readonly WalkEvent[] | null;
}

function Replay({ walk, fixes, events }: ReplayProps) {
  const whole = fixes.at(-1)?.at_s ?? 0;
  const [at, setAt] = useState(whole);
  const [playing, setPlaying] = useState(false);
  useEffect(() => {
    if (!playing) return;
    let last = performance.now();
    const timer = setInterval(() => {
      // By the clock, so that a slow device shows fewer pictures of the same replay.
      const passed = performance.now() - last;
      last += passed;
      setAt((now) => Math.min(whole, now + (whole * passed) / REPLAY_MS));
    }, FRAME_MS);
    return () => clearInterval(timer);
  }, [playing, whole]);
  useEffect(() => {
    if (at >= whole) setPlaying(false);
  }, [at, whole]);

  const when = (event: WalkEvent) => fixes[event.position]?.at_s ?? 0;
  const happened = (events ?? []).filter((event) => when(event) <= at);
  const inside = new Set<unknown>();
  for (const { type, geofence } of happened) {
    if (type === 'geofence.exited') inside.delete((geofence as Fenced).id);
    else inside.add((geofence as Fenced).id);
  }
  const insideKey = [...inside].join();
  const seen = happened.length;
  const zoom = Math.round((state.value.view?.zoom ?? 0) * 4) / 4;
  const { rows } = fences.value;
  const parts = useMemo<readonly Part[]>(
    () => [
      ...drawnFences(rows, inside),
      ...pathParts(walk.path),
      ...numbered(
        happened.flatMap(({ position }) => fixes[position] ?? []),
        MARK_PX * pixel_m(walk.path[0]?.lat ?? 0, zoom),
      ).map((place): Part => ({ role: 'event', geometry: pointOf(place), label: place.label })),
    ],
    [rows, drawnKey(rows), walk, fixes, insideKey, seen, events, zoom],
  );
  const here = fixes.length > 0 ? placeAt(walk, at) : null;
  const fix = fixes.findLast(({ at_s }) => at_s <= at) ?? null;
  useEffect(() => {
    const moving: Part[] = [];
    if (fix) moving.push({ role: 'blur', geometry: ring(fix, walk.accuracy_m) });
    if (here) moving.push({ role: 'walker', geometry: pointOf(here) });
    sketch.value = { parts, moving, layers: [], alone: true };
  }, [parts, at, walk]);
  useEffect(
    () => () => {
      sketch.value = NO_SKETCH;
    },
    [],
  );
  if (events === null) return null;
  return (
    <section class="block" aria-labelledby="events-title">
      <h3 id="events-title">{events.length === 0 ? 'No event' : counted(events.length, 'event')}</h3>
      <div class="player">
        <button
          type="button"
          class="button"
          onClick={() => {
            if (!playing && at >= whole) setAt(0);
            setPlaying(!playing);
          }}
        >
          {playing ? 'Pause' : 'Play'}
        </button>
        <input
          class="dial"
          type="range"
          min="0"
          max={String(whole)}
          step="any"
          aria-label="Time of the walk"
          aria-valuetext={`after ${lasting(at)}`}
          value={String(at)}
          onInput={(event) => {
            setPlaying(false);
            setAt(Number(event.currentTarget.value));
          }}
        />
        <span class="small">{lasting(at)}</span>
      </div>
      {events.length === 0 && (
        <p class="small quiet">
          No fence was entered for certain: the way leads through none, or the positions are too rough or too few.
        </p>
      )}
      <ol class="segmentations" aria-label="Events of the walk">
        {events.map((event, place) => (
          <li key={`${event.position} ${event.type} ${(event.geofence as Fenced).id}`}>
            <button
              type="button"
              class="segmentation"
              aria-current={when(event) <= at ? undefined : 'false'}
              onClick={() => {
                setPlaying(false);
                setAt(when(event));
              }}
            >
              <strong>{`${place + 1}. ${KINDS[event.type] ?? event.type} ${nameOf(event.geofence as Fenced)}`}</strong>
              <span class="badge">{event.confidence === 'high' ? 'Sure' : 'Likely'}</span>
              <span class="small quiet">{said(event, when(event))}</span>
            </button>
          </li>
        ))}
      </ol>
    </section>
  );
}

/** When an event was told, when it began, and how far the border was. */
function said(event: WalkEvent, at_s: number): string {
  const late = (Date.parse(event.detected_at) - Date.parse(event.occurred_at)) / 1000;
  const parts = [`after ${lasting(at_s)}`];
  if (late >= 1) parts.push(`true since ${lasting(at_s - late)}`);
  parts.push(`${sureness(event.probability)} sure`);
  if (event.distance_to_border_m !== null) parts.push(`${distance(event.distance_to_border_m)} from the border`);
  return parts.join(' · ');
}
