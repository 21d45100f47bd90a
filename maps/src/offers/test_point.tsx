/** What would this customer see here? Every live offer: those that hold, and of the rest why not. */

import { useCallback, useEffect, useState } from 'preact/hooks';
import * as routes from '../api/routes';
import type { Eligible, EligibleOffer, OtherOffer } from '../api/shapes';
import { Empty, Failed, Loading } from '../components/states';
import { count, counted } from '../format';
import type { Point } from '../state/model';
import { useRemote } from '../state/remote';
import { map } from '../state/screen';
import { show, state } from '../state/store';
import { CustomerPicker } from './customer_picker';
import { PointField } from './point_field';
import { holdSketch, loadFences, open, stamp, useSketch, useTap } from './state';
import { leftWords, moment, onePlace, reasonWords, said } from './words';

const HERE = Intl.DateTimeFormat().resolvedOptions().timeZone;

export function TestPanel() {
  const { who, spot } = state.value;
  const [at, setAt] = useState('');
  const put = useCallback((point: Point) => show({ spot: point }, 'quiet'), []);
  useTap(put);
  useHeldAreas();
  useEffect(() => {
    if (spot) map.value?.reveal(spot);
  }, [spot, map.value]);
  const moment_at = at === '' ? null : new Date(at).toISOString();
  const key = who && spot ? JSON.stringify([who, spot, moment_at]) : null;
  const [remote, again] = useRemote(key, (signal) =>
    routes.eligible(who ?? '', spot ?? { lon: 0, lat: 0 }, moment_at, signal),
  );
  return (
    <>
      <section class="block" aria-labelledby="offers-title">
        <h2 id="offers-title" class="large" tabIndex={-1}>
          What would this customer see here?
        </h2>
        <p class="small quiet">Nothing is remembered of it: the app is asked as if it were this customer’s.</p>
        <CustomerPicker
          chosen={who}
          choose={(id, home) => show({ who: id, ...(id && home && !spot ? { spot: home } : {}) }, 'quiet')}
        />
        <PointField id="spot" point={spot} put={put} />
        <details class="fold" open={at !== ''}>
          <summary>At another time</summary>
          <div class="field">
            <label for="test-at">On your clock ({HERE})</label>
            <input
              id="test-at"
              class="input"
              type="datetime-local"
              value={at}
              onChange={(event) => setAt(event.currentTarget.value)}
            />
          </div>
        </details>
      </section>
      {remote.status === 'loading' && <Loading what="the answer" lines={4} />}
      {remote.status === 'failed' && <Failed problem={remote.problem} again={again} />}
      {remote.status === 'ready' && <Answer answer={remote.data} at={moment_at} />}
      {remote.status === 'idle' && (
        <p class="quiet">{who === null ? 'Choose a customer first.' : 'Choose a point on the map.'}</p>
      )}
    </>
  );
}

/** Draws where the live offers hold, so that one sees where to try. */
function useHeldAreas(): void {
  const [live] = useRemote(`live ${stamp.value}`, (signal) => routes.offers('live', null, signal));
  const areas = live.status === 'ready' ? live.data.data.flatMap((offer) => said(offer)?.areas ?? []) : [];
  const fenced = areas.some(({ kind }) => kind.startsWith('geofence'));
  useEffect(() => {
    if (fenced) void loadFences();
  }, [fenced]);
  useSketch(holdSketch(areas));
}

function Answer({ answer, at }: { answer: Eligible; at: string | null }) {
  const others = answer.others ?? [];
  const when = at === null ? 'here and now' : `here on ${moment(at, HERE)}`;
  return (
    <>
      <section class="block" aria-labelledby="holds-title">
        <h3 id="holds-title">
          {answer.data.length === 0 ? `Nothing ${when}` : `${counted(answer.data.length, 'offer')} ${when}`}
        </h3>
        {answer.data.length === 0 && others.length === 0 && (
          <Empty title="No offer is live">
            <p>A draft is seen by nobody. Set one live first.</p>
          </Empty>
        )}
        {answer.data.length > 0 && (
          <ol class="segmentations">
            {answer.data.map((offer) => (
              <li key={offer.id}>
                <Held offer={offer} />
              </li>
            ))}
          </ol>
        )}
      </section>
      {others.length > 0 && (
        <section class="block" aria-labelledby="others-title">
          <h3 id="others-title">{`Not ${others.length === 1 ? 'the other one' : `the ${count(others.length)} others`}, and why`}</h3>
          <ul class="segmentations" aria-label="Offers that do not hold">
            {others.map((offer) => (
              <li key={offer.id}>
                <Other offer={offer} />
              </li>
            ))}
          </ul>
        </section>
      )}
    </>
  );
}

function Held({ offer }: { offer: EligibleOffer }) {
  const where = offer.where ? onePlace({ ...offer.where, area_id: offer.where.id ?? null }) : 'everywhere';
  const left = leftWords(offer.left);
  return (
    <button type="button" class="segmentation" onClick={() => open(offer.id)}>
      <strong>{offer.title ?? offer.name}</strong>
      <span class="badge strong">Yes</span>
      <span class="small quiet">
        {[offer.name, where, `open until ${moment(offer.open_until, HERE)}`, left].filter(Boolean).join(' · ')}
      </span>
    </button>
  );
}

function Other({ offer }: { offer: OtherOffer }) {
  return (
    <button type="button" class="segmentation" onClick={() => open(offer.id)}>
      <strong>{offer.title ?? offer.name}</strong>
      <span class="badge">No</span>
      <span class="small">{offer.reasons.map((reason) => reasonWords(reason, HERE)).join('; ')}</span>
      {offer.title && <span class="small quiet">{offer.name}</span>}
    </button>
  );
}
