/** Whose territory is here? Today or on a past day, with the reason. */

import { useEffect } from 'preact/hooks';
import { territoriesAt } from '../api/routes';
import type { Assignment } from '../api/shapes';
import { coordinates, date, words } from '../format';
import { nameOf } from '../state/legend';
import { useRemote } from '../state/remote';
import { found, isCoarse, map } from '../state/screen';
import { company } from '../state/session';
import { show, state } from '../state/store';
import { inNone, primaryOf, worthTelling } from '../state/territories';
import { Empty, Failed, Loading } from './states';

export const BASIS: Readonly<Record<string, string>> = {
  named: 'a named account',
  rule: 'by rule',
  polygon: 'inside its area',
  none: 'no territory matches',
};

/** Since when, until when. */
export function period(row: Pick<Assignment, 'since' | 'until'>): string {
  const from = date(row.since);
  return row.until ? `${from} to ${date(row.until)}` : from ? `since ${from}` : '';
}

function today(): string {
  return new Date().toISOString().slice(0, 10);
}

export function HerePanel() {
  const { here, as_of } = state.value;
  const key = here ? JSON.stringify([here, as_of]) : null;
  const [remote, again] = useRemote(key, (signal) => territoriesAt(here ?? { lon: 0, lat: 0 }, as_of, signal));
  const { layers } = company.value;
  const first = primaryOf(layers);
  const rows = remote.status === 'ready' ? worthTelling(remote.data.data) : [];
  const territory = rows.find((row) => row.layer.key === first?.key)?.area?.id ?? null;
  // The territory that was found stands out on the map; the point stays in sight.
  useEffect(() => {
    found.value = territory;
    return () => {
      found.value = null;
    };
  }, [territory]);
  useEffect(() => {
    if (here) map.value?.reveal(here);
  }, [here, map.value]);
  return (
    <div class="blocks">
      <section class="block" aria-label="Where and when">
        <p>
          {here
            ? coordinates(here.lon, here.lat)
            : `${isCoarse.value ? 'Tap' : 'Click'} anywhere on the map, on shops and customers too, or take its middle.`}
        </p>
        <div class="pair">
          <button
            type="button"
            class="button"
            onClick={() => {
              const here = map.value?.middle();
              if (here) show({ here });
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
      {remote.status === 'ready' && !rows.some((row) => row.layer.key === first?.key && row.area) && (
        <Empty title={`${inNone(first?.name ?? '')}${as_of ? ` on ${date(as_of)}` : ''}`}>
          <p>The point lies outside every area{first ? ` of the layer ${first.name}` : ''}.</p>
        </Empty>
      )}
      {rows.length > 0 && (
        <ul class="block" aria-label="Territories at the point">
          {rows
            .filter((row) => row.area)
            .map((row) => (
              <li key={`${row.layer.id}${row.area?.id}${row.since}`} class="fact-card">
                <span class="small quiet">{row.layer.name}</span>
                <strong class="large">{row.area?.name ?? row.area?.id}</strong>
                <p>{row.owner ? `Owner: ${row.owner.name ?? nameOf('owner', row.owner.id)}` : 'Nobody owns it'}</p>
                <p class="small quiet">
                  {words(BASIS[row.basis] ?? row.basis)}
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
