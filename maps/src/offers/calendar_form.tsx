/** When an offer holds: from, until, hours of the week, closed days, on the clock of a time zone. */

import { useState } from 'preact/hooks';
import { Icon } from '../design/icons';
import { date } from '../format';
import { Faults, Field } from './faults';
import type { Fault, Form } from './form';
import { HoursFields, ZoneField } from './hours_form';

interface Props {
  form: Form;
  faults: readonly Fault[];
  change: (change: Partial<Form>) => void;
}

export function CalendarForm({ form, faults, change }: Props) {
  const [closing, setClosing] = useState('');
  return (
    <fieldset class="rule">
      <legend class="field-name">When</legend>
      <ZoneField id="offer-zone" zone={form.zone} faults={faults} change={(zone) => change({ zone })} />
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
      <HoursFields id="hours" hours={form.hours} faults={faults} change={(hours) => change({ hours })} />
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
