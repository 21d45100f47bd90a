/** When an offer holds: from, until, hours of the week, closed days, on the clock of a time zone. */

import { useMemo, useState } from 'preact/hooks';
import { Icon } from '../design/icons';
import { date, words } from '../format';
import { Faults, Field } from './faults';
import type { Fault, Form, HoursRow } from './form';
import { WEEK } from './words';
import { knownZones } from './zoned';

interface Props {
  form: Form;
  faults: readonly Fault[];
  change: (change: Partial<Form>) => void;
}

const WORKDAYS: HoursRow = { days: ['mon', 'tue', 'wed', 'thu', 'fri'], from: '09:00', to: '18:00' };

export function CalendarForm({ form, faults, change }: Props) {
  const zones = useMemo(knownZones, []);
  const [closing, setClosing] = useState('');
  const put = (place: number, row: HoursRow | null) =>
    change({ hours: form.hours.flatMap((old, other) => (other !== place ? [old] : row ? [row] : [])) });
  return (
    <fieldset class="rule">
      <legend class="field-name">When</legend>
      <Field id="offer-zone" label="Time zone" faults={faults} of="/time_zone">
        {(tied) => (
          <select
            {...tied}
            class="input"
            value={form.zone}
            onChange={(event) => change({ zone: event.currentTarget.value })}
          >
            {(zones.includes(form.zone) ? zones : [form.zone, ...zones]).map((zone) => (
              <option key={zone} value={zone}>
                {zone.replaceAll('_', ' ')}
              </option>
            ))}
          </select>
        )}
      </Field>
      <Field id="offer-starts" label="From" faults={faults} of="/starts_at" hint="Empty: from when it is set live.">
        {(tied) => (
          <input
            {...tied}
            type="datetime-local"
            class="input"
            value={form.starts}
            onInput={(event) => change({ starts: event.currentTarget.value })}
          />
        )}
      </Field>
      <Field id="offer-ends" label="Until" faults={faults} of="/ends_at">
        {(tied) => (
          <input
            {...tied}
            type="datetime-local"
            class="input"
            value={form.ends}
            onInput={(event) => change({ ends: event.currentTarget.value })}
          />
        )}
      </Field>
      <div class="block">
        <span class="field-name">Hours</span>
        {form.hours.length === 0 && <p class="small quiet">At any hour.</p>}
        {form.hours.map((row, place) => (
          <Hours key={place} row={row} number={place + 1} change={(next) => put(place, next)} />
        ))}
        <Faults id="hours" faults={faults} of={['/hours']} />
        <button
          type="button"
          class="button plain"
          onClick={() => change({ hours: [...form.hours, form.hours.at(-1) ?? WORKDAYS] })}
        >
          <Icon name="plus" />
          {form.hours.length === 0 ? 'Only at certain hours' : 'More hours'}
        </button>
      </div>
      <div class="block">
        <div class="name-row">
          <div class="field">
            <label for="offer-closed">Closed on a day</label>
            <input
              id="offer-closed"
              type="date"
              class="input"
              value={closing}
              onInput={(event) => setClosing(event.currentTarget.value)}
            />
          </div>
          <button
            type="button"
            class="button low"
            disabled={closing === '' || form.closed.includes(closing)}
            onClick={() => {
              change({ closed: [...form.closed, closing].sort() });
              setClosing('');
            }}
          >
            Add
          </button>
        </div>
        {form.closed.length > 0 && (
          <ul class="chips" aria-label="Closed on">
            {form.closed.map((day) => (
              <li key={day}>
                <span>{date(day)}</span>
                <button
                  type="button"
                  class="icon-button"
                  aria-label={`Take away: ${date(day)}`}
                  onClick={() => change({ closed: form.closed.filter((one) => one !== day) })}
                >
                  <Icon name="close" />
                </button>
              </li>
            ))}
          </ul>
        )}
        <Faults id="closed" faults={faults} of={['/closed_on']} />
      </div>
    </fieldset>
  );
}

function Hours({ row, number, change }: { row: HoursRow; number: number; change: (row: HoursRow | null) => void }) {
  return (
    <fieldset class="condition">
      <legend class="hidden-visually">{`Hours ${number}`}</legend>
      <div class="days">
        {WEEK.map((day) => (
          <button
            key={day}
            type="button"
            class="choice day"
            aria-pressed={row.days.includes(day)}
            onClick={() =>
              change({
                ...row,
                days: row.days.includes(day)
                  ? row.days.filter((one) => one !== day)
                  : WEEK.filter((one) => one === day || row.days.includes(one)),
              })
            }
          >
            {words(day)}
          </button>
        ))}
      </div>
      <div class="times">
        <input
          class="input"
          type="time"
          aria-label={`Hours ${number}: from`}
          value={row.from}
          onInput={(event) => change({ ...row, from: event.currentTarget.value })}
        />
        <span aria-hidden="true">–</span>
        <input
          class="input"
          type="time"
          aria-label={`Hours ${number}: to`}
          value={row.to}
          onInput={(event) => change({ ...row, to: event.currentTarget.value })}
        />
        <button type="button" class="icon-button" aria-label={`Take hours ${number} away`} onClick={() => change(null)}>
          <Icon name="close" />
        </button>
      </div>
    </fieldset>
  );
}
