/** Offers: the list, one offer, a new one, and the tools to try them: a test point, a walk, fences. */

import { useEffect, useRef, useState } from 'preact/hooks';
import * as routes from '../api/routes';
import type { Offer } from '../api/shapes';
import { Choices } from '../components/choices';
import { Paged } from '../components/paged';
import { Empty, Failed, Loading } from '../components/states';
import { Icon } from '../design/icons';
import { counted } from '../format';
import { may } from '../segments/state';
import { usePages } from '../state/remote';
import { company, loadCompany } from '../state/session';
import { state } from '../state/store';
import { AutomationPanel, NewAutomation } from './automation_panel';
import { AutomationsPanel } from './automations';
import { DetailPanel } from './detail';
import { NewOffer } from './editor';
import { ImportPanel } from './fence_import';
import { FencesPanel } from './fences';
import { made, open, stamp } from './state';
import { TestPanel } from './test_point';
import { WalkPanel } from './walk';
import { holdOutWords, redeemedWords, said, standing, term, whereWords } from './words';
import './offers.css';

export function OffersPanel() {
  const { status, problem } = company.value;
  // The form of a new offer stays the page that it is when its first saving gives it an address.
  const offer = state.value.offer !== null && state.value.offer === made.value ? NEW : state.value.offer;
  const last = useRef<string | null>(null);
  // A page that was opened begins at its top, where its heading is.
  useEffect(() => {
    document.querySelector('.panel-scroll:not([hidden])')?.scrollTo({ top: 0 });
    const from = last.current;
    last.current = offer;
    if (offer) document.getElementById('offers-title')?.focus({ preventScroll: true });
    // Back in the list the keyboard goes on where it came from.
    else if (from) document.getElementById(`open-${from}`)?.focus({ preventScroll: true });
  }, [offer]);
  if (status === 'failed' && problem) return <Failed problem={problem} again={() => void loadCompany()} />;
  if (status === 'loading') return <Loading what="offers" lines={6} />;
  if (offer === null) return <List />;
  const above = offer === 'import' ? FENCES : /^(aut_|new_automation)/.test(offer) ? AUTOMATIONS : OFFERS;
  return (
    <div class="blocks">
      <button type="button" class="button plain back" onClick={() => open(above.page)}>
        <Icon name="back" />
        {above.name}
      </button>
      <Page key={offer} offer={offer} />
    </div>
  );
}

const NEW = 'new';

/** Where the button leads that stands above a page. */
const OFFERS = { page: null, name: 'All offers' };
const FENCES = { page: 'fences', name: 'All fences' };
const AUTOMATIONS = { page: 'automations', name: 'All automations' };

function Page({ offer }: { offer: string }) {
  if (offer === 'test') return <TestPanel />;
  if (offer === 'walk') return <WalkPanel />;
  if (offer === 'fences') return <FencesPanel />;
  if (offer === 'import') return <ImportPanel />;
  if (offer === 'automations') return <AutomationsPanel />;
  if (offer === 'new_automation') return <NewAutomation />;
  if (offer.startsWith('aut_')) return <AutomationPanel id={offer} />;
  if (offer === NEW) {
    return may('offers:write') ? (
      <NewOffer />
    ) : (
      <Empty title="Your role makes no offers">
        <p>An administrator, a marketer or an analyst can make one.</p>
      </Empty>
    );
  }
  return <DetailPanel id={offer} />;
}

const SHOWN: readonly { status: routes.OfferStatus | null; name: string; none: string }[] = [
  { status: null, name: 'All', none: 'No offers yet' },
  { status: 'live', name: 'Live', none: 'No offer is live' },
  { status: 'draft', name: 'Drafts', none: 'No drafts' },
  { status: 'ended', name: 'Ended', none: 'No offer has ended' },
];

const TOOLS = [
  { page: 'fences', name: 'Fences' },
  { page: 'automations', name: 'Automations' },
  { page: 'test', name: 'What would a customer see?' },
  { page: 'walk', name: 'Try a walk' },
];

function List() {
  const [which, setWhich] = useState(0);
  const shown = SHOWN[which] ?? { status: null, name: '', none: '' };
  const pages = usePages<Offer>(`offers ${shown.status} ${stamp.value}`, (cursor, signal) =>
    routes.offers(shown.status, cursor, signal),
  );
  return (
    <div class="blocks">
      <section class="block" aria-label="Make and try">
        {!may('offers:write') && (
          <p class="small">Your role looks at offers; an administrator, a marketer or an analyst makes them.</p>
        )}
        <div class="row-actions tools">
          {may('offers:write') && (
            <button type="button" id="open-new" class="button primary" onClick={() => open('new')}>
              <Icon name="plus" />
              New offer
            </button>
          )}
          {TOOLS.map(({ page, name }) => (
            <button key={page} type="button" id={`open-${page}`} class="button plain" onClick={() => open(page)}>
              {name}
            </button>
          ))}
        </div>
      </section>
      <section class="block" aria-label="Offers">
        <Choices of={SHOWN} which={which} choose={setWhich} />
        <Paged
          pages={pages}
          what="offers"
          lines={6}
          empty={
            <Empty title={shown.none}>
              {shown.status === null && (
                <p>
                  An offer says what a customer gets, who may have it, where, when and how often. Your app asks for it
                  with a customer and a point.
                </p>
              )}
            </Empty>
          }
        >
          {(rows) => (
            <>
              <p role="status" class="hidden-visually">
                {counted(rows.length, 'offer')}
              </p>
              <ul class="segmentations">
                {rows.map((offer) => (
                  <Row key={offer.id} offer={offer} />
                ))}
              </ul>
            </>
          )}
        </Paged>
      </section>
    </div>
  );
}

function Row({ offer }: { offer: Offer }) {
  const now = new Date();
  const { word } = standing(offer, now);
  const version = said(offer);
  const facts = version && [
    term(version, now, offer.ended_at),
    whereWords(version.areas),
    redeemedWords(offer),
    holdOutWords(version),
  ];
  return (
    <li>
      <button type="button" id={`open-${offer.id}`} class="segmentation" onClick={() => open(offer.id)}>
        <strong>{offer.name}</strong>
        <span class={word.startsWith('Live') ? 'badge strong' : 'badge'}>{word}</span>
        {version?.title && <span class="offer-title">{version.title}</span>}
        {facts && <span class="small quiet">{facts.filter((part) => part !== null).join(' · ')}</span>}
        {offer.live && offer.draft && <span class="small">A draft of version {offer.draft.version} waits</span>}
      </button>
    </li>
  );
}
