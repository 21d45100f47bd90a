/** What an offer brought: what those who were shown it bought more than those held out, and how sure that is. */

import { useState } from 'preact/hooks';
import * as routes from '../api/routes';
import type { OfferResults, Outcome } from '../api/shapes';
import { Failed, Loading } from '../components/states';
import { count, counted, money } from '../format';
import { EffectPlot, type EffectRow } from '../plots/effects';
import { may } from '../segments/state';
import { useRemote } from '../state/remote';
import { company } from '../state/session';
import { moment } from './words';

const HERE = Intl.DateTimeFormat().resolvedOptions().timeZone;

export function Brought({ id }: { id: string }) {
  const [asked, setAsked] = useState(false);
  if (!may('offers:write')) return null;
  return (
    <section class="block" aria-labelledby="brought-title">
      <h3 id="brought-title">What it brought</h3>
      {asked ? (
        <Asked id={id} />
      ) : (
        <button type="button" class="button" onClick={() => setAsked(true)}>
          Compare with those held out
        </button>
      )}
    </section>
  );
}

function Asked({ id }: { id: string }) {
  const [by, setBy] = useState('');
  const [remote, again] = useRemote(`results ${id} ${by}`, (signal) =>
    routes.offerResults(id, by === '' ? null : by, signal),
  );
  const divided = company.value.segmentations.filter(({ current_run }) => current_run !== null);
  return (
    <>
      <div class="field">
        <label for="results-by">Part by part</label>
        <select id="results-by" class="input" value={by} onChange={(event) => setBy(event.currentTarget.value)}>
          <option value="">All together</option>
          <option value="territory">By territory</option>
          {divided.map(({ key, name }) => (
            <option key={key} value={key}>
              {`By segment: ${name}`}
            </option>
          ))}
        </select>
      </div>
      {remote.status === 'loading' && <Loading what="what it brought" lines={4} />}
      {remote.status === 'failed' && <Failed problem={remote.problem} again={again} />}
      {remote.status === 'ready' && <Results results={remote.data} />}
    </>
  );
}

/** "+$1,234", of amounts that may be below 0. */
function signed(value: number, currency: string | null): string {
  const size = Math.abs(value);
  const text =
    size >= 100 && size < 10_000
      ? money(Math.round(size), currency ?? '').replace(/\.00/, '')
      : money(size, currency ?? '', size >= 10_000);
  return value === 0 ? text : `${value > 0 ? '+' : '−'}${text}`;
}

function effectRow(name: string, { effect }: Outcome, each: boolean): readonly EffectRow[] {
  if (!effect) return [];
  return [
    each
      ? { name, value: effect.each, low: effect.each_low, high: effect.each_high, isShown: effect.is_shown }
      : { name, value: effect.total, low: effect.total_low, high: effect.total_high, isShown: effect.is_shown },
  ];
}

function Results({ results }: { results: OfferResults }) {
  const { sales, margin, currency, shown, held_out, redeemed } = results;
  const rows = [...effectRow('Sales', sales, false), ...effectRow('Margin', margin, false)];
  const amount = (value: number) => signed(value, currency);
  return (
    <>
      <p>
        {`Shown to ${counted(shown, 'customer')}, held out from ${count(held_out)}, redeemed ${counted(redeemed, 'time')}, until ${moment(results.until, HERE)}.`}
      </p>
      {rows.length > 0 && (
        <figure class="plot">
          <EffectPlot rows={rows} amount={amount} label="What it brought in all" />
          <figcaption class="small quiet">
            In all, with the interval. Where it holds no difference, the dot is hollow.
          </figcaption>
        </figure>
      )}
      <ul class="notes">
        <li>{sales.sentence}</li>
        <li>{margin.sentence}</li>
        {results.notes.map((note) => (
          <li key={note}>{note}</li>
        ))}
      </ul>
      {results.by !== null && <Parts results={results} />}
    </>
  );
}

/** So many parts are drawn before the rest is folded away. */
const FEW = 8;

function Parts({ results: { parts, currency } }: { results: OfferResults }) {
  const drawn = parts.flatMap(({ name, sales }) => effectRow(name, sales, true));
  const silent = parts.filter(({ sales }) => sales.effect === null);
  const amount = (value: number) => signed(value, currency);
  if (parts.length === 0) return <p class="quiet">Nobody who was shown it is in a part.</p>;
  return (
    <>
      {drawn.length > 0 && (
        <figure class="plot">
          <EffectPlot rows={drawn.slice(0, FEW)} amount={amount} label="Sales of each customer, part by part" />
          {drawn.length > FEW && (
            <details class="fold">
              <summary>{counted(drawn.length - FEW, 'more part')}</summary>
              <EffectPlot rows={drawn.slice(FEW)} amount={amount} label="Sales of each customer, the other parts" />
            </details>
          )}
          <figcaption class="small quiet">
            Sales for each customer who was shown it. The intervals hold together, so they are wider than one alone.
          </figcaption>
        </figure>
      )}
      <details class="fold">
        <summary>In words</summary>
        <ul class="notes">
          {parts
            .filter(({ sales }) => sales.effect !== null)
            .map(({ id, sales, shown, held_out }) => (
              <li key={id}>{`${sales.sentence} Shown to ${count(shown)}, held out from ${count(held_out)}.`}</li>
            ))}
        </ul>
      </details>
      {silent.length > 0 && (
        <details class="fold" open={drawn.length === 0}>
          <summary>{`${counted(silent.length, 'part')} with too little to tell`}</summary>
          <ul class="notes">
            {silent.map(({ id, sales }) => (
              <li key={id}>{sales.sentence}</li>
            ))}
          </ul>
        </details>
      )}
    </>
  );
}
