/** Hours of the week and the time zone whose clock shows them: of offers, fences and automations. */

import { useMemo } from 'preact/hooks';
import { Icon } from '../design/icons';
import { words } from '../format';
import { Faults, Field } from './faults';
import type { Fault, HoursRow } from './form';
import { type Day, dayWords, WEEK } from './words';
import { knownZones } from './zoned';

/** The time zone of this browser. */
export const HERE = Intl.DateTimeFormat().resolvedOptions().timeZone;

interface ZoneProps {
  id: string;
  zone: string;
  faults: readonly Fault[];
  of?: string;
  change: (zone: string) => void;
}

export function ZoneField({ id, zone, faults, of = '/time_zone', change }: ZoneProps) {
  const zones = useMemo(knownZones, []);
  return (
    <Field id={id} label="Time zone" faults={faults} of={of}>
      {(tied) => (
        <select {...tied} class="input" value={zone} onChange={(event) => change(event.currentTarget.value)}>
          {(zones.includes(zone) ? zones : [zone, ...zones]).map((one) => (
            <option key={one} value={one}>
              {one.replaceAll('_', ' ')}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

const WORKDAYS: HoursRow = { days: ['mon', 'tue', 'wed', 'thu', 'fri'], from: '09:00', to: '18:00' };

interface HoursProps {
  id: string;
  hours: readonly HoursRow[];
  faults: readonly Fault[];
  change: (hours: readonly HoursRow[]) => void;
}

export function HoursFields({ id, hours, faults, change }: HoursProps) {
  const put = (place: number, row: HoursRow | null) =>
    change(hours.flatMap((old, other) => (other !== place ? [old] : row ? [row] : [])));
  return (
    <div class="block">
      <span class="field-name">Hours</span>
      {hours.length === 0 && <p class="small quiet">At any hour.</p>}
      {hours.map((row, place) => (
        <Hours key={place} row={row} number={place + 1} change={(next) => put(place, next)} />
      ))}
      <Faults id={id} faults={faults} of={['/hours']} />
      <button type="button" class="button plain" onClick={() => change([...hours, hours.at(-1) ?? WORKDAYS])}>
        <Icon name="plus" />
        {hours.length === 0 ? 'Only at certain hours' : 'More hours'}
      </button>
    </div>
  );
}

/** Days of the week, each on or off. */
export function DaysField({ days, change }: { days: readonly Day[]; change: (days: readonly Day[]) => void }) {
  return (
    <div class="days">
      {WEEK.map((day) => (
        <button
          key={day}
          type="button"
          class="choice day"
          aria-pressed={days.includes(day)}
          onClick={() =>
            change(
              days.includes(day)
                ? days.filter((one) => one !== day)
                : WEEK.filter((one) => one === day || days.includes(one)),
            )
          }
        >
          {words(day)}
        </button>
      ))}
    </div>
  );
}

function Hours({ row, number, change }: { row: HoursRow; number: number; change: (row: HoursRow | null) => void }) {
  return (
    <fieldset class="condition">
      <legend class="hidden-visually">{`Hours ${number}`}</legend>
      <div class="hours-head">
        <p class="small quiet">{row.days.length === 0 ? 'On no day yet' : dayWords(row.days)}</p>
        <button type="button" class="icon-button" aria-label={`Take hours ${number} away`} onClick={() => change(null)}>
          <Icon name="close" />
        </button>
      </div>
      <DaysField days={row.days} change={(days) => change({ ...row, days })} />
      <div class="times">
        <input
          class="input"
          type="time"
          aria-label={`Hours ${number}: from`}
          value={row.from}
          onInput={(event) => change({ ...row, from: event.currentTarget.value })}
        />
        <input
          class="input"
          type="time"
          aria-label={`Hours ${number}: to`}
          value={row.to}
          onInput={(event) => change({ ...row, to: event.currentTarget.value })}
        />
      </div>
    </fieldset>
  );
}
