/** One fence as a form, with its shape on the map. */

import { useCallback, useEffect, useState } from 'preact/hooks';
import * as routes from '../api/routes';
import type { Fence, OneFence } from '../api/shapes';
import { Confirm } from '../components/confirm';
import { Failed } from '../components/states';
import { coordinates, counted } from '../format';
import { boxOfShapes, type Part, pathParts } from '../map/sketch';
import { may } from '../segments/state';
import { keyFor } from '../segments/words';
import type { Point } from '../state/model';
import { useSubmit } from '../state/remote';
import { isCoarse, map } from '../state/screen';
import { Faults, reveal, TextField } from './faults';
import { type Drawn, drawnOf, fenceBody, keepsShape } from './fence';
import { type Fault, faultsMet } from './form';
import { HERE, HoursFields, ZoneField } from './hours_form';
import { MapCentre } from './map_centre';
import { pairsOf } from './pairs';
import { PairsFields } from './pairs_form';
import { drawnFences, fences, loadFences, NOTHING_ON, ring, useSketch, useTap, written } from './state';
import { fenceWords } from './words';

/** What is said of a fence that was saved. */
function overlapWords({ name, external_id, overlaps }: OneFence): string {
  const saved = `“${name ?? external_id}” is saved.`;
  if (overlaps.length === 0) return saved;
  return `${saved} It overlaps ${overlaps.slice(0, 3).join(', ')}${overlaps.length > 3 ? ' and others' : ''}: who stands in both is in each of them.`;
}

export function FenceForm({ fence, done }: { fence: Fence | null; done: (news: string) => void }) {
  const [form, setForm] = useState(() => drawnOf(fence, HERE));
  const [faults, setFaults] = useState<readonly Fault[]>([]);
  const [asked, setAsked] = useState(false);
  const { busy, problem, submit } = useSubmit();
  const writes = may('geofences:write');
  const kept = keepsShape(fence, form);
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
        reveal();
        return wrong.status === 422 && at.length > 0 ? null : wrong;
      },
    );
  const save = () => {
    const { body, faults: own } = fenceBody(form, fence);
    setFaults(own);
    reveal();
    if (own.length > 0) return;
    const taken = fences.value.rows.filter(({ tag }) => tag === form.tag).map(({ external_id }) => external_id);
    const id = form.id === '' ? keyFor(form.name, taken) : form.id;
    // A new one takes nobody's place: of what is not there yet the version is 0.
    void work(() => routes.putFence(form.tag, id, body, fence?.version ?? 0), overlapWords);
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
      {fence && <p class="small quiet">{`${fence.tag}/${fence.external_id} · ${fenceWords(fence)}`}</p>}
      {fence && !writes && <Held metadata={fence.metadata} />}
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
          {!fence && (
            <TextField
              id="fence-id"
              label="Id, if your systems have one"
              faults={faults}
              of="/external_id"
              hint="Empty: it is made of the name."
              maxLength={200}
              value={form.id}
              change={(id) => change({ id })}
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
          <fieldset class="rule">
            <legend class="field-name">When it tells</legend>
            <HoursFields id="fence-hours" hours={form.hours} faults={faults} change={(hours) => change({ hours })} />
            {form.hours.length > 0 && (
              <ZoneField id="fence-zone" zone={form.zone} faults={faults} change={(zone) => change({ zone })} />
            )}
          </fieldset>
          <PairsFields
            id="fence-metadata"
            title="Metadata"
            hint="Your app and your webhooks are given it with every event of the fence."
            add={form.metadata.length === 0 ? 'Add metadata' : 'More metadata'}
            pairs={form.metadata}
            faults={faults}
            of="/metadata"
            change={(metadata) => change({ metadata })}
          />
        </>
      )}
      {problem?.status === 412 ? (
        <div class="notice" role="alert">
          <strong>
            {fence ? 'Somebody else has changed this fence meanwhile' : 'There is a fence with this tag and id already'}
          </strong>
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

/** What is held with a fence, for those who only look at it. */
function Held({ metadata }: { metadata: Fence['metadata'] }) {
  return (
    <>
      <dl class="facts">
        {pairsOf(metadata).map(({ name, value }) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <p class="small quiet">An administrator or a marketer can change it.</p>
    </>
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
