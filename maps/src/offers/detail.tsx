/** One offer: what it says, where, when and for whom, and how often it was redeemed. */

import { useEffect, useState } from 'preact/hooks';
import * as routes from '../api/routes';
import type { Offer, OfferVersion } from '../api/shapes';
import { Empty, Failed, Loading } from '../components/states';
import { counted, date } from '../format';
import { useRemote } from '../state/remote';
import { map } from '../state/screen';
import { Actions } from './actions';
import { Editor, isKept } from './editor';
import { Brought } from './results';
import { boundsOf, fences, framing, holdSketch, loadFences, stamp, useSketch } from './state';
import {
  holdOutWords,
  hoursWords,
  leftWords,
  moment,
  onePlace,
  redeemedWords,
  said,
  standing,
  validity,
} from './words';

export function DetailPanel({ id }: { id: string }) {
  const [remote, again] = useRemote(`offer ${id} ${stamp.value}`, (signal) => routes.offer(id, signal));
  if (remote.status === 'failed' && remote.problem.status === 404) {
    return (
      <Empty title="Offer not found">
        <p>There is no such offer, or its draft was thrown away.</p>
      </Empty>
    );
  }
  if (remote.status === 'failed') return <Failed problem={remote.problem} again={again} />;
  if (remote.status !== 'ready') return <Loading what="the offer" lines={7} />;
  return <Detail offer={remote.data} />;
}

function Detail({ offer }: { offer: Offer }) {
  // Changes that were not saved are there again.
  const [editing, setEditing] = useState(isKept(offer.id));
  if (editing) return <Editor offer={offer} done={() => setEditing(false)} />;
  return <Shown offer={offer} edit={() => setEditing(true)} />;
}

function Shown({ offer, edit }: { offer: Offer; edit: () => void }) {
  const { word, means } = standing(offer, new Date());
  const version = said(offer);
  const fenced = version?.areas.some((area) => area.kind.startsWith('geofence')) ?? false;
  useEffect(() => {
    if (fenced) void loadFences();
  }, [fenced]);
  const ready = !fenced || fences.value.status === 'ready';
  useEffect(() => {
    if (!version || !ready || !map.value || !framing()) return;
    const aborter = new AbortController();
    boundsOf(version.areas, aborter.signal).then(
      (bounds) => bounds && !aborter.signal.aborted && map.value?.fit(bounds),
      // Where it holds is told in words too.
      () => undefined,
    );
    return () => aborter.abort();
  }, [offer.id, ready, map.value]);
  useSketch(version && ready ? holdSketch(version.areas) : null);
  return (
    <>
      <section class="block" aria-labelledby="offers-title">
        <h2 id="offers-title" class="large" tabIndex={-1}>
          {offer.name}
        </h2>
        <p>
          <span class={word.startsWith('Live') ? 'badge strong' : 'badge'}>{word}</span>{' '}
          <span class="small quiet">{means}</span>
        </p>
        <p>{redeemedWords(offer)}</p>
        <Actions offer={offer} edit={edit} />
      </section>
      {offer.live && <Brought id={offer.id} />}
      {offer.live && <Says version={offer.live} title={`Version ${offer.live.version}`} ended={offer.ended_at} />}
      {offer.draft && (
        <Says version={offer.draft} title={offer.live ? `The draft of version ${offer.draft.version}` : 'The draft'} />
      )}
    </>
  );
}

interface SaysProps {
  version: OfferVersion;
  title: string;
  /** When its offer ended, if it did. */
  ended?: string | null;
}

function Says({ version, title, ended = null }: SaysProps) {
  const hours = hoursWords(version.hours);
  const rows: readonly (readonly [string, string | null])[] = [
    ['What', version.title ?? 'not said yet'],
    ['Terms', version.terms],
    ['For', version.audience === null ? 'everybody' : version.audience_sentence],
    ['Customers', version.audience_members === null ? null : counted(version.audience_members, 'customer')],
    ['Consent', version.consent_purpose === null ? 'none is needed' : `to ${version.consent_purpose}`],
    ['When', validity(version)],
    ['Ended', ended && moment(ended, version.time_zone)],
    ['Hours', hours && `${hours} (${version.time_zone ?? 'UTC'})`],
    ['Closed on', version.closed_on.length > 0 ? version.closed_on.map((day) => date(day)).join(', ') : null],
    ['Caps', capWords(version)],
    ['Priority', version.priority === 0 ? null : String(version.priority)],
    ['Hold-out', holdOutWords(version) ?? 'none: what it brings cannot be measured'],
  ];
  return (
    <section class="block" aria-label={title}>
      <h3>{title}</h3>
      <dl class="facts">
        {rows.map(
          ([name, value]) =>
            value !== null && (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </div>
            ),
        )}
        <div>
          <dt>Where</dt>
          <dd>
            {version.areas.length === 0 ? (
              'everywhere'
            ) : (
              <ul>
                {version.areas.slice(0, 20).map((area, place) => (
                  <li key={place}>{onePlace(area)}</li>
                ))}
                {version.areas.length > 20 && <li>{`and ${version.areas.length - 20} more`}</li>}
              </ul>
            )}
          </dd>
        </div>
      </dl>
    </section>
  );
}

function capWords({ cap_total, cap_per_customer }: OfferVersion): string {
  const left = leftWords({ in_all: cap_total, for_customer: null })?.replace(' left', '');
  const each = cap_per_customer === null ? null : `${counted(cap_per_customer, 'time')} for each customer`;
  return [left, each].filter(Boolean).join(', ') || 'none';
}
