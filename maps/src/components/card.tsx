/** A customer's card: who, where and how exactly, whose and why, what was sold, what happened. */

import { useEffect, useRef } from 'preact/hooks';
import * as routes from '../api/routes';
import type { Assignment, Contact, Customer, Site } from '../api/shapes';
import { Icon, MarkIcon } from '../design/icons';
import { OTHER, STAGE_MARKS } from '../design/palette';
import { ago, coordinates, date, distance, words } from '../format';
import { SalesPlot } from '../plots/sales';
import { featureName, featureValue, isBeside } from '../segments/features';
import { nameOf } from '../state/legend';
import { useRemote } from '../state/remote';
import { bring, map, spots } from '../state/screen';
import { company } from '../state/session';
import { show } from '../state/store';
import { inNone, primaryOf, worthTelling } from '../state/territories';
import { CopyButton } from './copy';
import { BASIS, period } from './here_panel';
import { Failed, Loading } from './states';
import { Tasks } from './tasks';
import './card.css';

const PRECISION: Readonly<Record<string, string>> = {
  given: 'position as given',
  rooftop: 'at the house',
  street: 'in the street',
  postcode: 'middle of the postal code',
  locality: 'middle of the town',
  region: 'middle of the region',
};

function addressOf(site: Site): string {
  const region = [site.region, site.postal_code].filter(Boolean).join(' ');
  return [site.line1, site.line2, site.city, region, site.country].filter(Boolean).join(', ');
}

/** Hands the point to the phone's own navigation. */
function navigation(lon: number, lat: number): string {
  const apple = /iPhone|iPad|Macintosh/.test(navigator.userAgent);
  return apple ? `maps://?daddr=${lat},${lon}` : `geo:${lat},${lon}?q=${lat},${lon}`;
}

/** Who is responsible: the owner by name, else the owner of the territory that the main site lies in. */
function ownership(customer: Customer): string {
  if (customer.owner) return `Owner: ${customer.owner.name ?? nameOf('owner', customer.owner.id)}`;
  const through = primary(customer)?.territory_owner;
  return through ? `Owner: ${through.name ?? nameOf('owner', through.id)}, through the territory` : 'Owner: nobody yet';
}

function Actions({ customer }: { customer: Customer }) {
  const reached = customer.contacts.find((contact) => contact.phone && !contact.phone_masked);
  const site = primary(customer);
  return (
    <div class="card-actions">
      {reached?.phone && (
        <a class="button primary" href={`tel:${reached.phone.replace(/[^+\d]/g, '')}`}>
          <Icon name="phone" />
          <span>Call{reached.name ? ` ${reached.name}` : ''}</span>
        </a>
      )}
      {site?.location && (
        <a class="button" href={navigation(site.location.lon, site.location.lat)}>
          <Icon name="route" />
          Navigate
        </a>
      )}
      {site?.location && <CopyButton what="the position" text={coordinates(site.location.lon, site.location.lat)} />}
    </div>
  );
}

function primary(customer: Customer): Site | undefined {
  return customer.sites.find((site) => site.is_primary) ?? customer.sites[0];
}

function Contacts({ contacts }: { contacts: readonly Contact[] }) {
  if (contacts.length === 0) return <p class="quiet">No contact details.</p>;
  return (
    <ul class="card-list">
      {contacts.map((contact) => (
        <li key={contact.id}>
          {contact.name && <strong>{contact.name}</strong>}
          {contact.role && <span class="quiet"> · {contact.role}</span>}
          {contact.phone && (
            <p>
              <a href={`tel:${contact.phone.replace(/[^+\d]/g, '')}`}>{contact.phone}</a>
            </p>
          )}
          {contact.email && (
            <p>
              <a href={`mailto:${contact.email}`}>{contact.email}</a>
            </p>
          )}
          {(contact.phone_masked || contact.email_masked) && (
            <p class="small quiet">
              {contact.phone_masked && contact.email_masked
                ? 'E-mail and phone'
                : contact.phone_masked
                  ? 'Phone'
                  : 'E-mail'}{' '}
              hidden: your role reads contact details only with consent.
            </p>
          )}
        </li>
      ))}
    </ul>
  );
}

function Sites({ customer, sites }: { customer: string; sites: readonly Site[] }) {
  return (
    <ul class="card-list">
      {sites.map((site) => (
        <li key={site.id}>
          {(site.label || sites.length > 1) && (
            <strong>
              {site.label ?? 'Site'}
              {site.is_primary ? ' (main)' : ''}
            </strong>
          )}
          <p>{addressOf(site) || 'No address'}</p>
          {site.location ? (
            <>
              <p class="small quiet">
                {PRECISION[site.location_precision ?? ''] ?? words(site.location_precision ?? 'unknown precision')}
                {site.precision_m ? `, within ${distance(site.precision_m)} in 95 of 100 cases` : ''}
              </p>
              <button
                type="button"
                class="link small"
                onClick={() => site.location && map.value?.near(site.location, site.precision_m ?? null)}
              >
                Show on map
              </button>{' '}
              <button
                type="button"
                class="link small"
                onClick={() =>
                  show({ panel: 'offers', offer: 'test', who: customer, spot: site.location, customer: null })
                }
              >
                What offers hold here?
              </button>
            </>
          ) : (
            <p class="small quiet">
              Not on the map: {words(site.placement).toLowerCase()}
              {site.flags.length > 0 ? ` (${site.flags.map(words).join(', ').toLowerCase()})` : ''}
            </p>
          )}
        </li>
      ))}
    </ul>
  );
}

function why(row: Assignment): string {
  const basis = BASIS[row.basis] ?? words(row.basis);
  return row.reason ? `${basis}: ${row.reason}` : basis;
}

/** The territory of each site on the primary layer, with the reason; of other layers where one matches. */
function Territories({ id, sites }: { id: string; sites: readonly Site[] }) {
  const [remote, again] = useRemote(`territories ${id}`, (signal) => routes.territoryHistory(id, signal));
  if (remote.status === 'failed') return <Failed problem={remote.problem} again={again} />;
  if (remote.status !== 'ready') return <Loading what="territories" lines={2} />;
  const { layers } = company.value;
  const rows = worthTelling(remote.data.data);
  const now = Date.now();
  const current = rows.filter((row) => !row.until || new Date(row.until).getTime() > now);
  const past = rows.filter((row) => !current.includes(row));
  if (rows.length === 0) {
    const placed = sites.some((site) => site.location);
    return (
      <p class="quiet">
        {inNone(primaryOf(layers)?.name ?? '')}
        {placed ? '.' : ': the place is not known yet.'}
      </p>
    );
  }
  const siteOf = (row: Assignment) => {
    const site = sites.length > 1 && sites.find(({ id: site_id }) => site_id === row.site_id);
    return site ? ` · ${site.label ?? site.city ?? 'Site'}${site.is_primary ? ' (main)' : ''}` : '';
  };
  const line = (row: Assignment) => (
    <li key={`${row.layer.id}${row.site_id}${row.area?.id}${row.since}`}>
      <p class="small quiet">
        {row.layer.name}
        {siteOf(row)}
      </p>
      <strong>{row.area ? (row.area.name ?? row.area.id) : inNone(row.layer.name)}</strong>
      {row.owner && <span class="quiet"> · {row.owner.name ?? nameOf('owner', row.owner.id)}</span>}
      <p class="small quiet">
        {words(why(row))} · {period(row)}
      </p>
    </li>
  );
  return (
    <>
      <ul class="card-list">{current.map(line)}</ul>
      {past.length > 0 && (
        <details>
          <summary>Earlier territories ({past.length})</summary>
          <ul class="card-list">{past.map(line)}</ul>
        </details>
      )}
    </>
  );
}

function Sales({ id }: { id: string }) {
  const [remote, again] = useRemote(`sales ${id}`, (signal) => routes.monthlySales(id, signal));
  if (remote.status === 'failed') return <Failed problem={remote.problem} again={again} />;
  if (remote.status !== 'ready') return <Loading what="sales" lines={5} />;
  if (remote.data.data.length === 0) return <p class="quiet">Nothing sold in the last three years.</p>;
  return <SalesPlot months={remote.data.data} />;
}

function Interactions({ id }: { id: string }) {
  const [remote, again] = useRemote(`interactions ${id}`, (signal) => routes.interactionsOf(id, signal));
  if (remote.status === 'failed') return <Failed problem={remote.problem} again={again} />;
  if (remote.status !== 'ready') return <Loading what="interactions" lines={3} />;
  const rows = remote.data.data;
  if (rows.length === 0) return <p class="quiet">No calls, visits or messages yet.</p>;
  return (
    <ul class="card-list">
      {rows.map((row) => (
        <li key={row.id}>
          <strong>{words(row.kind)}</strong>
          <span class="quiet">
            {' '}
            ·{' '}
            <time dateTime={row.occurred_at} title={date(row.occurred_at)}>
              {ago(row.occurred_at)}
            </time>
            {row.outcome ? ` · ${words(row.outcome).toLowerCase()}` : ''}
          </span>
          {(row.subject || row.body) && <p class="card-note">{row.subject || row.body}</p>}
        </li>
      ))}
    </ul>
  );
}

/** In which segments the customer is, with the scores that brought it there. */
function Segments({ customer }: { customer: Customer }) {
  return (
    <ul class="card-list">
      {customer.segments.map((row) => {
        const scores = Object.entries(customer.scores[row.key] ?? {}).filter(
          ([name, value]) => value !== null && !isBeside(name),
        );
        return (
          <li key={row.key}>
            <p class="small quiet">{row.segmentation.name}</p>
            <strong>{row.segment.name ?? row.segment.id}</strong>
            {scores.length > 0 && (
              <p class="small quiet">
                {scores.map(([name, value]) => `${featureName(name)} ${featureValue(name, value ?? 0)}`).join(' · ')}
              </p>
            )}
            {row.because.map((why) => (
              <p key={why} class="small">
                {why}
              </p>
            ))}
            <p class="small quiet">by what was known on {date(row.cutoff)}</p>
          </li>
        );
      })}
    </ul>
  );
}

const times = (lift: number): string => `${lift >= 10 ? Math.round(lift) : lift.toFixed(1)} times`;

/** What goes together with what the customer has, and how well such offers did; nothing where nobody has asked yet. */
function NextOffers({ id }: { id: string }) {
  const [remote, again] = useRemote(`offers ${id}`, (signal) => routes.nextOffers(id, signal));
  if (remote.status === 'failed') return <Failed problem={remote.problem} again={again} />;
  if (remote.status !== 'ready' || remote.data.analysis === null) return null;
  const { data, note, held_out, cutoff } = remote.data;
  return (
    <section class="block" aria-labelledby="card-offers">
      <h2 id="card-offers">To offer next</h2>
      {data.length === 0 && <p class="quiet">{note ?? 'It has all that goes together with what it bought.'}</p>}
      <ol class="card-list">
        {data.map((row) => (
          <li key={row.rank}>
            <strong>{row.product.name}</strong>
            <p class="small quiet">
              {row.because ? `Goes with ${row.because.name}` : 'Sells most; nothing it bought is like it'}
              {row.confidence !== null && row.lift !== null && (
                <>
                  : {Math.round(row.confidence * 100)} % of its buyers bought this too, {times(row.lift)} as often as by
                  chance
                </>
              )}
            </p>
          </li>
        ))}
      </ol>
      {data.length > 0 && (
        <p class="small quiet">
          {held_out?.sentence ?? 'How well such offers do is not known: too few customers bought something new.'}
          {cutoff && ` By what was bought before ${date(cutoff)}.`}
        </p>
      )}
    </section>
  );
}

export function Card({ id, close }: { id: string; close: () => void }) {
  const [remote, again] = useRemote(`customer ${id}`, (signal) => routes.customer(id, signal));
  const title = useRef<HTMLHeadingElement>(null);

  // the heading takes the focus when the card or its data changes
  useEffect(() => {
    title.current?.focus({ preventScroll: true });
  }, [id, remote.status]);

  const customer = remote.status === 'ready' ? remote.data : null;
  // The map marks the customer's sites and brings the main one into view.
  useEffect(() => {
    if (!customer) return;
    spots.value = customer.sites.flatMap((site) =>
      site.location ? [{ ...site.location, precision_m: site.precision_m ?? null }] : [],
    );
    const main = primary(customer);
    if (main?.location) {
      if (bring.value === 'near') map.value?.near(main.location, main.precision_m ?? null);
      else map.value?.reveal(main.location);
    }
    return () => {
      spots.value = [];
    };
  }, [customer, map.value]);
  const missing = remote.status === 'failed' && remote.problem.status === 404;
  return (
    <article class="card" aria-labelledby="card-title">
      <header class="card-head">
        <button type="button" class="icon-button" aria-label="Close the card" onClick={close}>
          <Icon name="back" />
        </button>
        <h1 id="card-title" ref={title} tabIndex={-1}>
          {customer?.name ?? (missing ? 'Customer not found' : remote.status === 'failed' ? 'Customer' : 'Loading…')}
        </h1>
      </header>
      {remote.status === 'failed' && missing && (
        <p>There is no such customer, or it is not among those that you may see.</p>
      )}
      {remote.status === 'failed' && !missing && <Failed problem={remote.problem} again={again} />}
      {remote.status === 'loading' && <Loading what="the customer" lines={8} />}
      {customer && (
        <div class="blocks">
          <section class="block" aria-label="Who">
            <p class="card-who">
              <MarkIcon mark={STAGE_MARKS[customer.stage] ?? OTHER} />
              <span>
                <strong>{words(customer.stage)}</strong> {words(customer.kind).toLowerCase()}
                {customer.industry ? ` · ${words(customer.industry)}` : ''}
                {customer.size_class ? ` · ${words(customer.size_class)}` : ''}
              </span>
            </p>
            <p>
              {ownership(customer)}
              {customer.parent ? ` · part of ${customer.parent.name ?? customer.parent.id}` : ''}
            </p>
            {customer.preferred_channel && (
              <p class="small quiet">Prefers {words(customer.preferred_channel).toLowerCase()}</p>
            )}
            <Actions customer={customer} />
          </section>
          <Tasks key={id} id={id} />
          <section class="block" aria-labelledby="card-contacts">
            <h2 id="card-contacts">Contact</h2>
            <Contacts contacts={customer.contacts} />
          </section>
          <section class="block" aria-labelledby="card-where">
            <h2 id="card-where">Where</h2>
            <Sites customer={id} sites={customer.sites} />
          </section>
          <section class="block" aria-labelledby="card-territory">
            <h2 id="card-territory">Territory, and why</h2>
            <Territories id={id} sites={customer.sites} />
          </section>
          {customer.segments.length > 0 && (
            <section class="block" aria-labelledby="card-segments">
              <h2 id="card-segments">Segments</h2>
              <Segments customer={customer} />
            </section>
          )}
          <NextOffers id={id} />
          <section class="block" aria-labelledby="card-sales">
            <h2 id="card-sales">Sales over time</h2>
            <Sales id={id} />
          </section>
          <section class="block" aria-labelledby="card-interactions">
            <h2 id="card-interactions">Lately</h2>
            <Interactions id={id} />
          </section>
        </div>
      )}
    </article>
  );
}
