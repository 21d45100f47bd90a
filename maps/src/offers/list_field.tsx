/** A list that automations enter customers into: chosen, or made anew by its name. */

import { useState } from 'preact/hooks';
import * as routes from '../api/routes';
import { Failed } from '../components/states';
import { may } from '../segments/state';
import { useRemote, useSubmit } from '../state/remote';
import { Field } from './faults';
import type { Fault } from './form';

interface Props {
  id: string;
  hint: string;
  /** `aud_3`; empty while none is chosen. */
  list: string;
  faults: readonly Fault[];
  of: string;
  change: (list: string) => void;
}

const NEW = 'new';

export function ListField({ id, hint, list, faults, of, change }: Props) {
  const [made, setMade] = useState(0);
  const [remote, again] = useRemote(`lists ${made}`, routes.audiences);
  const [naming, setNaming] = useState(false);
  const [name, setName] = useState('');
  const { busy, problem, submit } = useSubmit();
  const known = remote.status === 'ready' ? remote.data : [];
  const make = () =>
    submit(async () => {
      const { id: chosen } = await routes.createAudience(name.trim());
      setMade((count) => count + 1);
      setNaming(false);
      setName('');
      change(chosen);
    });
  return (
    <div class="block">
      <Field id={id} label="List" faults={faults} of={of} hint={hint}>
        {(tied) => (
          <select
            {...tied}
            class="input"
            value={naming ? NEW : list}
            onChange={(event) => {
              const { value } = event.currentTarget;
              setNaming(value === NEW);
              if (value !== NEW) change(value);
            }}
          >
            <option value="">Choose a list…</option>
            {list !== '' && !known.some((one) => one.id === list) && <option value={list}>{list}</option>}
            {known.map((one) => (
              <option key={one.id} value={one.id}>
                {one.name}
              </option>
            ))}
            {may('automations:write') && <option value={NEW}>A new list…</option>}
          </select>
        )}
      </Field>
      {remote.status === 'failed' && <Failed problem={remote.problem} again={again} />}
      {naming && (
        <div class="name-row">
          <div class="field">
            <label for={`${id}-name`}>Name of the new list</label>
            <input
              id={`${id}-name`}
              class="input"
              maxLength={300}
              placeholder="For instance: At the door"
              value={name}
              onInput={(event) => setName(event.currentTarget.value)}
            />
          </div>
          <button type="button" class="button low" disabled={busy || name.trim() === ''} onClick={() => void make()}>
            Make it
          </button>
        </div>
      )}
      {problem && <Failed problem={problem} />}
    </div>
  );
}
