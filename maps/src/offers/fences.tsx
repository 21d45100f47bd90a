/** Fences: the list, and one of them as a form with its shape on the map. */

import { useCallback, useEffect, useMemo, useState } from 'preact/hooks';
import * as routes from '../api/routes';
import type { Fence, OneFence } from '../api/shapes';
import { Confirm } from '../components/confirm';
import { Empty, Failed, Loading } from '../components/states';
import { Icon } from '../design/icons';
import { coordinates, count, counted, distance } from '../format';
import { boxOfShapes, type Part, pathParts } from '../map/sketch';
import { may } from '../segments/state';
import { keyFor } from '../segments/words';
import type { Point } from '../state/model';
import { useSubmit } from '../state/remote';
import { isCoarse, map } from '../state/screen';
import { Faults, TextField } from './faults';
import { type Fault, faultsMet } from './form';
import { MapCentre } from './map_centre';
import {
  drawnFences,
  drawnKey,
  fences,
  loadFences,
  open,
  ring,
  stamp,
  useFencesInView,
  useSketch,
  useTap,
  written,
} from './state';
import { lasting } from './walks';
import { hoursWords } from './words';

type Edited = { readonly fence: Fence | null };

/** What is said of a fence that was saved or deleted. */
function overlapWords({ name, external_id, overlaps }: OneFence): string {
  const saved = `“${name ?? external_id}” is saved.`;
  if (overlaps.length === 0) return saved;
  return `${saved} It overlaps ${overlaps.slice(0, 3).join(', ')}${overlaps.length > 3 ? ' and others' : ''}: who stands in both is in each of them.`;
}

export function FencesPanel() {
  const [edited, setEdited] = useState<Edited | null>(null);
  const [said, setSaid] = useState('');
  useEffect(() => void loadFences(), [stamp.value]);
  const back = (news: string) => {
    setSaid(news);
    setEdited(null);
  };
  const { status, rows, problem } = fences.value;
  if (status === 'failed' && problem) return <Failed problem={problem} again={() => void loadFences(true)} />;
  if (status === 'loading') return <Loading what="fences" lines={5} />;
  if (edited) return <FenceForm key={edited.fence?.id ?? 'new'} fence={edited.fence} done={back} />;
  return (
    <List
      rows={rows}
      said={said}
      edit={(fence) => {
        setSaid('');
        setEdited({ fence });
      }}
    />
  );
}

const NOTHING_ON: ReadonlySet<unknown> = new Set();
/** So many rows are listed before a name has to be typed. */
const LISTED = 50;

interface ListProps {
  rows: readonly Fence[];
  said: string;
  edit: (fence: Fence | null) => void;
}

function List({ rows, said, edit }: ListProps) {
  const [text, setText] = useState('');
  const parts = useMemo(() => drawnFences(rows, NOTHING_ON), [rows, drawnKey(rows)]);
  useFencesInView();
  useSketch({ parts, moving: [], layers: [], alone: true });
  useEffect(() => {
    const box = boxOfShapes(rows.slice(0, 200).map(({ geometry }) => geometry as unknown as GeoJSON.Polygon));
    if (box) map.value?.fit(box);
  }, [stamp.value, map.value]);
  const writes = may('geofences:write');
  const sought = text.trim().toLowerCase();
  const called = (fence: Fence) => `${fence.name ?? ''} ${fence.tag}/${fence.external_id}`.toLowerCase();
  const found = sought === '' ? rows : rows.filter((fence) => called(fence).includes(sought));
  return (
    <section class="block" aria-labelledby="offers-title">
      <h2 id="offers-title" class="large" tabIndex={-1}>
        Fences
      </h2>
      <p class="small quiet">
        Where a phone enters one, stays in it or leaves it, your app and your webhooks are told. An offer can hold in
        them.
      </p>
      <div class="row-actions">
        {writes && (
          <button type="button" class="button primary" onClick={() => edit(null)}>
            <Icon name="plus" />
            New fence
          </button>
        )}
        <button type="button" class="button" onClick={() => open('walk')}>
          Try a walk
        </button>
      </div>
      <p role="status" class={said === '' ? 'hidden-visually' : 'small'}>
        {said}
      </p>
      {rows.length === 0 && (
        <Empty title="No fences yet">
          <p>
            {writes ? 'A circle around a shop is a good first one.' : 'An administrator or a marketer can draw one.'}
          </p>
        </Empty>
      )}
      {rows.length > LISTED && (
        <div class="field">
          <label for="fence-search">
            {rows.length < routes.MOST_FENCES
              ? `Find among ${count(rows.length)}`
              : `Find among the first ${count(routes.MOST_FENCES)}, and those that the map has shown`}
          </label>
          <input
            id="fence-search"
            class="input"
            type="search"
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </div>
      )}
      <ul class="segmentations" aria-label="Fences">
        {found.slice(0, LISTED).map((fence) => (
          <li key={fence.id}>
            <button type="button" class="segmentation" onClick={() => edit(fence)}>
              <strong>{fence.name ?? fence.external_id}</strong>
              <span class="badge">{fence.tag}</span>
              <span class="small quiet">{shapeWords(fence)}</span>
            </button>
          </li>
        ))}
      </ul>
      {found.length > LISTED && <p class="small quiet">{`and ${count(found.length - LISTED)} more`}</p>}
    </section>
  );
}

function shapeWords(fence: Fence): string {
  const shape = fence.radius_m === null ? 'polygon' : `${distance(fence.radius_m)} around a point`;
  const stay = fence.dwell_s === null ? null : `tells who stays ${lasting(fence.dwell_s)}`;
  const hours = hoursWords(fence.hours);
  return [shape, stay, hours && `${hours} (${fence.time_zone})`].filter(Boolean).join(' · ');
}

interface Drawn {
  readonly tag: string;
  readonly id: string;
  readonly name: string;
  readonly shape: 'circle' | 'polygon';
  readonly centre: Point | null;
  readonly radius: string;
  readonly corners: readonly Point[];
  readonly dwell: string;
}

/** The corners of a polygon of one ring; null for shapes that this form cannot draw. */
function cornersOf(geometry: unknown): readonly Point[] | null {
  const { type, coordinates: given } = geometry as { type?: unknown; coordinates?: unknown };
  const polygons = type === 'MultiPolygon' ? (given as number[][][][]) : [given as number[][][]];
  const [ring0] = polygons[0] ?? [];
  if (polygons.length !== 1 || polygons[0]?.length !== 1 || !ring0) return null;
  return ring0.slice(0, -1).map(([lon = 0, lat = 0]) => ({ lon, lat }));
}

function FenceForm({ fence, done }: { fence: Fence | null; done: (news: string) => void }) {
  const stored = fence && fence.radius_m === null ? cornersOf(fence.geometry) : [];
  const [form, setForm] = useState<Drawn>(() => ({
    tag: fence?.tag ?? 'shops',
    id: fence?.external_id ?? '',
    name: fence?.name ?? '',
    shape: fence && fence.radius_m === null ? 'polygon' : 'circle',
    centre: fence?.center ?? null,
    radius: String(fence?.radius_m ?? 150),
    corners: stored ?? [],
    dwell: fence?.dwell_s ? String(fence.dwell_s / 60) : '',
  }));
  const [faults, setFaults] = useState<readonly Fault[]>([]);
  const [asked, setAsked] = useState(false);
  const { busy, problem, submit } = useSubmit();
  const writes = may('geofences:write');
  /** A shape of several rings stays as it is. */
  const kept = stored === null && form.shape === 'polygon' && form.corners.length === 0;
  const change = (part: Partial<Drawn>) => setForm((now) => ({ ...now, ...part }));
  const take = useCallback(
    (point: Point) =>
      setForm((now) =>
        now.shape === 'circle' ? { ...now, centre: point } : { ...now, corners: [...now.corners, point] },
      ),
    [],
  );
  useTap(writes ? take : null);
  const radius = Number(form.radius);
  const parts: Part[] = [];
  if (kept && fence) parts.push({ role: 'fence-on', geometry: fence.geometry as unknown as GeoJSON.Polygon });
  else if (form.shape === 'circle' && form.centre && radius > 0)
    parts.push({ role: 'fence-on', geometry: ring(form.centre, radius) }, ...pathParts([form.centre]));
  else if (form.shape === 'polygon') parts.push(...pathParts(form.corners, true));
  const others = fences.value.rows.filter(({ id }) => id !== fence?.id);
  useSketch({ parts: [...drawnFences(others, NOTHING_ON), ...parts], moving: [], layers: [], alone: true });
  useEffect(() => {
    const box = fence && boxOfShapes([fence.geometry as unknown as GeoJSON.Polygon]);
    if (box) map.value?.fit(box);
  }, [map.value]);
  useEffect(() => document.getElementById('offers-title')?.focus({ preventScroll: true }), []);

  const work = <T,>(ask: () => Promise<T>, news: (answer: T) => string) =>
    submit(
      async () => {
        const answer = await ask();
        written();
        await loadFences(true);
        done(news(answer));
      },
      (wrong) => {
        const at = faultsMet(wrong);
        setFaults(at);
        return wrong.status === 422 && at.length > 0 ? null : wrong;
      },
    );
  const save = () => {
    const own: Fault[] = [];
    const dwell = form.dwell.trim() === '' ? null : Number(form.dwell) * 60;
    if (!/^[a-z0-9][a-z0-9_-]{0,62}$/.test(form.tag))
      own.push({ pointer: '/tag', detail: 'small letters and digits, such as shops' });
    if (form.name.trim() === '') own.push({ pointer: '/name', detail: 'a name is needed, so that you find it again' });
    if (dwell !== null && !(dwell > 0)) own.push({ pointer: '/dwell_s', detail: 'minutes, or nothing' });
    if (form.shape === 'circle' && !(radius > 0)) own.push({ pointer: '/radius_m', detail: 'metres are needed' });
    if (form.shape === 'circle' && !form.centre)
      own.push({ pointer: '/geometry', detail: 'choose a point on the map' });
    if (form.shape === 'polygon' && !kept && form.corners.length < 3)
      own.push({ pointer: '/geometry', detail: 'three corners or more are needed' });
    setFaults(own);
    if (own.length > 0) return;
    const taken = fences.value.rows.filter(({ tag }) => tag === form.tag).map(({ external_id }) => external_id);
    const id = form.id === '' ? keyFor(form.name, taken) : form.id;
    const closed = [...form.corners, ...form.corners.slice(0, 1)].map(({ lon, lat }) => [lon, lat]);
    const shape =
      form.shape === 'circle'
        ? { center: form.centre, radius_m: radius }
        : { geometry: kept && fence ? fence.geometry : { type: 'Polygon', coordinates: [closed] } };
    void work(
      () =>
        routes.putFence(
          form.tag,
          id,
          {
            ...shape,
            name: form.name.trim(),
            dwell_s: dwell,
            // What this form does not show stays.
            hours: fence?.hours ?? null,
            time_zone: fence?.time_zone ?? null,
            metadata: fence?.metadata ?? {},
          },
          fence?.version,
        ),
      overlapWords,
    );
  };
  return (
    <form
      class="block editor"
      aria-labelledby="offers-title"
      onSubmit={(event) => {
        event.preventDefault();
        save();
      }}
    >
      <h2 id="offers-title" class="large" tabIndex={-1}>
        {fence ? (fence.name ?? fence.external_id) : 'New fence'}
      </h2>
      {fence && <p class="small quiet">{`${fence.tag}/${fence.external_id} · ${shapeWords(fence)}`}</p>}
      {writes && (
        <>
          <div class="choices">
            {(['circle', 'polygon'] as const).map((shape) => (
              <button
                key={shape}
                type="button"
                class="choice"
                aria-pressed={form.shape === shape}
                onClick={() => change({ shape })}
              >
                {shape === 'circle' ? 'A circle' : 'A polygon'}
              </button>
            ))}
          </div>
          <Pointing form={form} kept={kept} take={take} change={change} />
          <Faults id="fence-shape" faults={faults} of={['/geometry', '/center']} />
          {form.shape === 'circle' && (
            <TextField
              id="fence-radius"
              label="Metres around the point"
              faults={faults}
              of="/radius_m"
              inputMode="decimal"
              value={form.radius}
              change={(radius) => change({ radius })}
            />
          )}
          <TextField
            id="fence-name"
            label="Name"
            faults={faults}
            of="/name"
            maxLength={500}
            value={form.name}
            change={(name) => change({ name })}
          />
          {!fence && (
            <TextField
              id="fence-tag"
              label="Tag"
              faults={faults}
              of="/tag"
              hint="What kind of fence it is. An offer can hold in all fences of a tag."
              maxLength={63}
              value={form.tag}
              change={(tag) => change({ tag })}
            />
          )}
          <TextField
            id="fence-dwell"
            label="Minutes after which one has stayed"
            faults={faults}
            of="/dwell_s"
            hint="Empty: nobody is told of staying."
            inputMode="decimal"
            value={form.dwell}
            change={(dwell) => change({ dwell })}
          />
        </>
      )}
      {problem?.status === 412 ? (
        <div class="notice" role="alert">
          <strong>Somebody else has changed this fence meanwhile</strong>
          <button
            type="button"
            class="button"
            onClick={() => {
              void loadFences(true);
              done('');
            }}
          >
            Back to the list, as it is now
          </button>
        </div>
      ) : (
        problem && <Failed problem={problem} />
      )}
      {asked && fence && (
        <Confirm
          question="Delete this fence?"
          yes="Delete it"
          busy={busy}
          act={() =>
            void work(
              () => routes.deleteFence(fence.tag, fence.external_id, fence.version),
              () => `“${fence.name ?? fence.external_id}” is deleted.`,
            )
          }
          cancel={() => setAsked(false)}
        >
          <p>It is watched no longer. No event is made of that.</p>
        </Confirm>
      )}
      <div class="save-bar">
        <div class="row-actions">
          {writes && (
            <button type="submit" class="button primary" disabled={busy}>
              {busy ? 'Saving…' : 'Save fence'}
            </button>
          )}
          <button type="button" class="button" disabled={busy} onClick={() => done('')}>
            {writes ? 'Cancel' : 'Back'}
          </button>
          {writes && fence && (
            <button type="button" class="button plain" disabled={busy} onClick={() => setAsked(true)}>
              Delete
            </button>
          )}
        </div>
      </div>
    </form>
  );
}

interface PointingProps {
  form: Drawn;
  kept: boolean;
  take: (point: Point) => void;
  change: (part: Partial<Drawn>) => void;
}

function Pointing({ form, kept, take, change }: PointingProps) {
  const press = isCoarse.value ? 'Tap' : 'Click';
  const { shape, centre, corners } = form;
  return (
    <>
      <p role="status">
        {shape === 'circle'
          ? centre
            ? coordinates(centre.lon, centre.lat)
            : `${press} the middle of the circle on the map.`
          : kept
            ? `It has several rings and stays as it is. ${press} corners on the map to draw it anew.`
            : `${press} its corners on the map, one after the other: ${counted(corners.length, 'corner')}.`}
      </p>
      <div class="row-actions">
        <MapCentre take={take} />
        {shape === 'polygon' && corners.length > 0 && (
          <>
            <button type="button" class="button" onClick={() => change({ corners: corners.slice(0, -1) })}>
              Undo
            </button>
            <button type="button" class="button" onClick={() => change({ corners: [] })}>
              Clear
            </button>
          </>
        )}
      </div>
    </>
  );
}
