/** One customer, found by name. */

import { useEffect, useState } from 'preact/hooks';
import * as routes from '../api/routes';
import type { CustomerRow } from '../api/shapes';
import { Failed } from '../components/states';
import { NO_FILTERS, type Point } from '../state/model';
import { useRemote } from '../state/remote';

const PAUSE_MS = 250;
const FEW = 6;

interface Props {
  chosen: string | null;
  /** `home` is where the customer's site is, where it is known. */
  choose: (id: string | null, home: Point | null) => void;
}

export function CustomerPicker({ chosen, choose }: Props) {
  const [customer] = useRemote(chosen, (signal) => routes.customer(chosen ?? '', signal));
  if (chosen !== null) {
    return (
      <div class="chosen">
        <p>
          <span class="field-name">Customer</span>
          <strong>
            {customer.status === 'ready' ? customer.data.name : customer.status === 'failed' ? 'Not found' : chosen}
          </strong>
        </p>
        <button type="button" class="button" onClick={() => choose(null, null)}>
          Another one
        </button>
      </div>
    );
  }
  return <Search choose={choose} />;
}

function Search({ choose }: Pick<Props, 'choose'>) {
  const [text, setText] = useState('');
  const [asked, setAsked] = useState('');
  useEffect(() => {
    const timer = setTimeout(() => setAsked(text.trim()), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [text]);
  const [found, again] = useRemote(asked.length < 2 ? null : asked, (signal) =>
    routes.searchCustomers(asked, NO_FILTERS, null, signal),
  );
  const rows: readonly CustomerRow[] = found.status === 'ready' ? found.data.data.slice(0, FEW) : [];
  return (
    <div class="field">
      <label for="who">Customer</label>
      <input
        id="who"
        class="input"
        type="search"
        autocomplete="off"
        placeholder="Two letters of a name or more"
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
      />
      <p role="status" class="small quiet">
        {found.status === 'ready' && rows.length === 0 ? `Nobody found for “${asked}”` : ''}
      </p>
      {found.status === 'failed' && <Failed problem={found.problem} again={again} />}
      {rows.length > 0 && (
        <ul class="options" aria-label="Customers found">
          {rows.map((row) => (
            <li key={row.id}>
              <button type="button" class="option" onClick={() => choose(row.id, row.site?.location ?? null)}>
                <strong>{row.name}</strong>
                <span class="small quiet">{row.site?.city ?? ''}</span>
              </button>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
