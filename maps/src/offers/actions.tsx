/** What can be done with an offer: change it, set it live, end it, throw its draft away. */

import { useEffect, useState } from 'preact/hooks';
import * as routes from '../api/routes';
import type { Offer } from '../api/shapes';
import { Confirm } from '../components/confirm';
import { ruleFields } from '../segments/rule_fields';
import { may } from '../segments/state';
import { useSubmit } from '../state/remote';
import { bodyOf, type Fault, formOf } from './form';
import { HERE } from './hours_form';
import { Reach } from './reach';
import { Refused } from './refused';
import { open, wantsLive, written } from './state';
import { fieldName, holdOutWords, warningWords } from './words';

type Asked = 'live' | 'end' | 'discard';

/** What an offer said last as a new draft, whose time is still to be said. */
function copyOf({ name, live, campaign_id }: Offer) {
  const form = formOf(`${name.slice(0, 290)} (again)`, live, HERE, ruleFields.value, campaign_id);
  return bodyOf({ ...form, starts: '', ends: '' }, ruleFields.value).body;
}

export function Actions({ offer, edit }: { offer: Offer; edit: () => void }) {
  const [asked, setAsked] = useState<Asked | null>(null);
  const [warned, setWarned] = useState<readonly string[]>([]);
  const [missing, setMissing] = useState<readonly Fault[] | null>(null);
  const { busy, problem, submit } = useSubmit();
  const { id, status, version } = offer;
  const writes = may('offers:write') && status !== 'ended';
  const publishes = may('offers:publish') && status !== 'ended';

  const work = <T,>(ask: () => Promise<T>, then: (answer: T) => void) =>
    submit(async () => {
      const answer = await ask();
      setAsked(null);
      then(answer);
    });
  const wantLive = () =>
    work(
      () => routes.checkOffer(id),
      ({ data, warnings }) => {
        setMissing(data);
        setWarned(warningWords(warnings));
        if (data.length === 0) setAsked('live');
      },
    );
  useEffect(() => {
    // Its form leads here; it is loaded anew first where the form has saved.
    if (wantsLive.value?.id !== id || wantsLive.value.version !== version) return;
    wantsLive.value = null;
    void wantLive();
  }, [id, version]);
  if (!may('offers:write') && !may('offers:publish')) {
    return <p class="small">Your role looks at offers; an administrator, a marketer or an analyst changes them.</p>;
  }
  return (
    <>
      <div class="row-actions">
        {publishes && offer.draft && (
          <button type="button" class="button primary" disabled={busy} onClick={() => void wantLive()}>
            Set live
          </button>
        )}
        {writes && (
          <button type="button" class="button" onClick={edit}>
            {offer.draft ? 'Change the draft' : 'New version'}
          </button>
        )}
        {publishes && offer.live && (
          <button type="button" class="button" disabled={busy} onClick={() => setAsked('end')}>
            End it
          </button>
        )}
        {may('offers:write') && status === 'ended' && offer.live && (
          <button
            type="button"
            class="button"
            disabled={busy}
            onClick={() =>
              void work(
                () => routes.createOffer(copyOf(offer)),
                ({ id: copy }) => {
                  written();
                  open(copy);
                },
              )
            }
          >
            Use again
          </button>
        )}
        {writes && offer.draft && (
          <button type="button" class="button plain" disabled={busy} onClick={() => setAsked('discard')}>
            Throw the draft away
          </button>
        )}
      </div>
      {writes && !publishes && (
        <p class="small">
          {offer.live
            ? 'A marketer or an administrator sets new versions live, and ends it.'
            : 'A marketer or an administrator sets it live.'}
        </p>
      )}
      {may('offers:write') && status === 'ended' && (
        <p class="small quiet">Used again, it is a new draft that says the same, but not from when until when.</p>
      )}
      {missing && missing.length > 0 && (
        <div class="notice" role="alert">
          <strong>It cannot go live yet</strong>
          <ul class="notes">
            {missing.map(({ pointer, detail }) => (
              <li key={`${pointer} ${detail}`}>{`${fieldName(pointer)}: ${detail}`}</li>
            ))}
          </ul>
          <button type="button" class="button" onClick={edit}>
            Change the draft
          </button>
        </div>
      )}
      {asked === 'live' && (
        <Confirm
          question={offer.live ? 'Set the draft live in the place of what is live?' : 'Set this offer live?'}
          yes={offer.live ? 'Set the new version live' : 'Set it live now'}
          busy={busy}
          act={() => void work(() => routes.setOfferLive(id, version), written)}
          cancel={() => setAsked(null)}
        >
          <p>
            {offer.live
              ? 'Redemptions count on, and who was held out stays so. '
              : 'From now on customers have it where and when it says. '}
            Nothing changes under a customer’s feet: a live version is never changed, only followed by a new one.
          </p>
          {offer.draft && <Reach audience={offer.draft.audience} consent={offer.draft.consent_purpose ?? ''} />}
          {warned.map((warning) => (
            <p key={warning} class="small">
              <strong>{warning}</strong>
            </p>
          ))}
          {offer.draft && <p class="small">{holdOutWords(offer.draft) ?? 'Nobody is held out.'}</p>}
        </Confirm>
      )}
      {asked === 'end' && (
        <Confirm
          question="End this offer for good?"
          yes="End it now"
          busy={busy}
          act={() => void work(() => routes.endOffer(id, version), written)}
          cancel={() => setAsked(null)}
        >
          <p>At once nobody has it any more{offer.draft && ', and its draft is thrown away'}. Its results stay.</p>
        </Confirm>
      )}
      {asked === 'discard' && (
        <Confirm
          question="Throw the draft away?"
          yes="Throw it away"
          busy={busy}
          act={() =>
            void work(
              () => routes.discardDraft(id, version),
              () => {
                written();
                if (!offer.live) open(null);
              },
            )
          }
          cancel={() => setAsked(null)}
        >
          <p>{offer.live ? 'What is live stays.' : 'The offer was never live; it is gone with it.'}</p>
        </Confirm>
      )}
      <Refused what="offer" problem={problem} />
    </>
  );
}
