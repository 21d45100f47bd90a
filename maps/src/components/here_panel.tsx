/** Whose territory is here? Today or on a past day, with the reason. */

import { territoriesAt } from '../api/routes';
import type { Assignment } from '../api/shapes';
import { coordinates, date, words } from '../format';
import { nameOf } from '../state/legend';
import { useRemote } from '../state/remote';
import { map } from '../state/screen';
import { show, state } from '../state/store';
import { Empty, Failed, Loading } from './states';

export const BASIS: Readonly<Record<string, string>> = {
  named: 'a named account',
  rule: 'by rule',
  polygon: 'inside its area',
  none: 'no territory matches',
};

/** Since when, until when. */
export function period(row: Pick<Assignment, 'valid_from' | 'valid_to'>): string {
  const from = date(row.valid_from);
  return row.valid_to ? `${from} to ${date(row.valid_to)}` : from ? `since ${from}` : '';
}

function today(): string {
  return new Date().toISOString().slice(0, 10);
}

export function HerePanel() {
  const { here, as_of } = state.value;
  const key = here ? JSON.stringify([here, as_of]) : null;
  const [remote, again] = useRemote(key, (signal) => territoriesAt(here ?? { lon: 0, lat: 0 }, as_of, signal));
  return (
    <div class="blocks">
      <section class="block" aria-label="Where and when">
        <p>
          {here
            ? coordinates(here.lon, here.lat)
            : 'Click the map, or take its middle. With the panel closed, press long or right-click.'}
        </p>
        <div class="pair">
          <button
            type="button"
            class="button"
            onClick={() => {
              const view = map.value?.view();
              if (view) show({ here: { lon: view.lon, lat: view.lat } });
            }}
          >
            Map centre
          </button>
          <div class="field">
            <label for="as-of">On the day</label>
            <input
              id="as-of"
              class="input"
              type="date"
              max={today()}
              value={as_of ?? today()}
              onChange={(event) => {
                const day = event.currentTarget.value;
                show({ as_of: day === '' || day === today() ? null : day });
              }}
            />
          </div>
        </div>
        {as_of && (
          <button type="button" class="button plain" onClick={() => show({ as_of: null })}>
            Back to today
          </button>
        )}
      </section>
      {remote.status === 'loading' && <Loading what="territories" lines={3} />}
      {remote.status === 'failed' && <Failed problem={remote.problem} again={again} />}
      {remote.status === 'ready' && remote.data.data.length === 0 && (
        <Empty title={as_of ? `No territory here on ${date(as_of)}` : 'No territory here'}>
          <p>The point lies outside every territory that you may see.</p>
        </Empty>
      )}
      {remote.status === 'ready' && (
        <ul class="block" aria-label="Territories at the point">
          {remote.data.data.map((row) => (
            <li key={`${row.layer}${row.territory?.id}${row.valid_from}`} class="fact-card">
              <strong class="large">{row.territory?.name ?? row.territory?.id ?? 'No territory'}</strong>
              <p>
                {row.owner ? `Owner: ${row.owner.name ?? nameOf('owner', row.owner.id)}` : 'Nobody owns it'}
                {row.layer ? ` · layer ${words(row.layer.replace(/^lay_/, ''))}` : ''}
              </p>
              <p class="small quiet">
                {BASIS[row.basis] ?? words(row.basis)}
                {period(row) && ` · ${period(row)}`}
                {row.reason && ` · ${row.reason}`}
              </p>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
