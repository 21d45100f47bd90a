/** What can be done with an offer: change it, set it live, end it, throw its draft away. */

import { useState } from 'preact/hooks';
import * as routes from '../api/routes';
import type { Offer } from '../api/shapes';
import { Confirm } from '../components/confirm';
import { Failed } from '../components/states';
import { may } from '../segments/state';
import { useSubmit } from '../state/remote';
import type { Fault } from './form';
import { open, written } from './state';
import { fieldName } from './words';

type Asked = 'live' | 'end' | 'discard';

export function Actions({ offer, edit }: { offer: Offer; edit: () => void }) {
  const [asked, setAsked] = useState<Asked | null>(null);
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
      ({ data }) => {
        setMissing(data);
        if (data.length === 0) setAsked('live');
      },
    );
  if (!writes && !publishes) return null;
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
        {writes && offer.draft && (
          <button type="button" class="button plain" disabled={busy} onClick={() => setAsked('discard')}>
            Throw the draft away
          </button>
        )}
      </div>
      {writes && !publishes && offer.draft && <p class="small quiet">A marketer or an administrator sets it live.</p>}
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
      {problem?.status === 412 ? (
        <div class="notice" role="alert">
          <strong>Somebody else has changed this offer meanwhile</strong>
          <p>Look at it again before you go on.</p>
          <button type="button" class="button" onClick={written}>
            Show it as it is now
          </button>
        </div>
      ) : (
        problem && <Failed problem={problem} />
      )}
    </>
  );
}
