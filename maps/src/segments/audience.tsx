/** Customers as a file, to write to or to call: who may take how many along, and why. */

import { useState } from 'preact/hooks';
import * as routes from '../api/routes';
import { Failed } from '../components/states';
import { count, counted } from '../format';
import { useRemote } from '../state/remote';
import { me } from '../state/session';
import { may } from './state';

/** So many customers a rep takes along at a time. */
const REP_MOST = 1000;

export function Audience({ condition, name }: { condition: object; name: string }) {
  const [asked, setAsked] = useState(false);
  if (!may('exports')) {
    return (
      <p class="small quiet">
        {may('exports:aggregated')
          ? 'Your role takes totals along, not customers: a marketer can export this audience.'
          : 'Your role may not export customers.'}
      </p>
    );
  }
  return (
    <details class="fold" onToggle={(event) => setAsked(event.currentTarget.open)}>
      <summary>
        Export these customers<span class="hidden-visually">: {name}</span>
      </summary>
      {asked && <File condition={condition} />}
    </details>
  );
}

function File({ condition }: { condition: object }) {
  const role = me.value?.role;
  // What the file will hold: a marketer's only those who consented.
  const held = role === 'marketer' ? { all: [condition, { consent: { purpose: 'marketing' } }] } : condition;
  const [remote, again] = useRemote(JSON.stringify(held), async (signal) => {
    const [inFile, all] = await Promise.all([
      routes.countCustomers(held, signal),
      held === condition ? null : routes.countCustomers(condition, signal),
    ]);
    return { inFile: inFile.customers, all: all?.customers ?? inFile.customers };
  });
  if (remote.status === 'failed') return <Failed problem={remote.problem} again={again} />;
  if (remote.status !== 'ready') return <p class="small quiet">Counting…</p>;
  const { inFile, all } = remote.data;
  if (role === 'rep' && inFile > REP_MOST) {
    return (
      <p class="small">
        {counted(inFile, 'customer')}: you may take {counted(REP_MOST, 'customer')} along at a time. Add a condition.
      </p>
    );
  }
  return (
    <div class="block">
      <p class="small">
        {inFile < all
          ? `${count(inFile)} of ${counted(all, 'customer')}: those who consented to marketing by any channel`
          : counted(inFile, 'customer')}
        . One line for each address
        {role === 'marketer' && '; e-mail and phone stand where one consented to be written to or called'}. What you
        export is noted in the audit log.
      </p>
      {inFile > 0 && (
        <a class="button" href={routes.customersFile(condition)} download>
          Download as CSV
        </a>
      )}
    </div>
  );
}
