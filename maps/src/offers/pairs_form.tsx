/** Rows of a name and a value. */

import { Icon } from '../design/icons';
import { Faults } from './faults';
import type { Fault } from './form';
import type { Pair } from './pairs';

interface Props {
  id: string;
  title: string;
  hint: string;
  /** What the button says that adds a row. */
  add: string;
  pairs: readonly Pair[];
  faults: readonly Fault[];
  of: string;
  change: (pairs: readonly Pair[]) => void;
}

export function PairsFields({ id, title, hint, add, pairs, faults, of, change }: Props) {
  const put = (place: number, part: Partial<Pair>) =>
    change(pairs.map((pair, other) => (other === place ? { ...pair, ...part } : pair)));
  return (
    <fieldset class="block pairs">
      <legend class="field-name">{title}</legend>
      <p class="small quiet">{hint}</p>
      {pairs.map(({ name, value }, place) => (
        <div key={place} class="named">
          <input
            class="input"
            aria-label={`${title} ${place + 1}: name`}
            placeholder="Name"
            maxLength={200}
            value={name}
            onInput={(event) => put(place, { name: event.currentTarget.value })}
          />
          <input
            class="input"
            aria-label={`${title} ${place + 1}: value`}
            placeholder="Value"
            value={value}
            onInput={(event) => put(place, { value: event.currentTarget.value })}
          />
          <button
            type="button"
            class="icon-button"
            aria-label={`Take away: ${title} ${place + 1}`}
            onClick={() => change(pairs.filter((_, other) => other !== place))}
          >
            <Icon name="close" />
          </button>
        </div>
      ))}
      <Faults id={id} faults={faults} of={[of]} />
      <button type="button" class="button plain" onClick={() => change([...pairs, { name: '', value: '' }])}>
        <Icon name="plus" />
        {add}
      </button>
    </fieldset>
  );
}
