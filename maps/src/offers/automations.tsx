/** Automations: whether each is on, when it was last set off, and what came of it. */

import { useEffect } from 'preact/hooks';
import * as routes from '../api/routes';
import type { Automation } from '../api/shapes';
import { Paged } from '../components/paged';
import { Empty } from '../components/states';
import { Icon } from '../design/icons';
import { counted } from '../format';
import { may } from '../segments/state';
import { usePages, useRemote } from '../state/remote';
import { actionWords, latestWords, triggerWords } from './automation';
import { HERE } from './hours_form';
import { open, stamp } from './state';
import { moment } from './words';

const NOBODY: ReadonlyMap<string, string> = new Map();

/** What the offers and lists are called that automations name; empty before it is known. */
export function useNames(): ReadonlyMap<string, string> {
  const [remote] = useRemote(`names ${stamp.value}`, async (signal) => {
    const [offers, lists] = await Promise.all([routes.offersToChoose(signal), routes.audiences(signal)]);
    return new Map([...offers, ...lists].map(({ id, name }) => [id, `“${name}”`]));
  });
  return remote.status === 'ready' ? remote.data : NOBODY;
}

export function AutomationsPanel() {
  const pages = usePages<Automation>(`automations ${stamp.value}`, routes.automations);
  const names = useNames();
  useEffect(() => document.getElementById('offers-title')?.focus({ preventScroll: true }), []);
  return (
    <section class="block" aria-labelledby="offers-title">
      <h2 id="offers-title" class="large" tabIndex={-1}>
        Automations
      </h2>
      <p class="small quiet">
        When a customer enters a fence, stays or leaves, or at an hour of the week: an offer, a task for the rep, or a
        place on a list.
      </p>
      {may('automations:write') ? (
        <div class="row-actions">
          <button type="button" id="open-new_automation" class="button primary" onClick={() => open('new_automation')}>
            <Icon name="plus" />
            New automation
          </button>
        </div>
      ) : (
        <p class="small">Your role looks at them; an administrator, a marketer or an analyst makes one.</p>
      )}
      <Paged
        pages={pages}
        what="automations"
        lines={5}
        empty={
          <Empty title="No automations yet">
            <p>
              A warm welcome at the door of a shop is a good first one: an offer for two hours for who enters its fence.
            </p>
          </Empty>
        }
      >
        {(rows) => (
          <>
            <p role="status" class="hidden-visually">
              {counted(rows.length, 'automation')}
            </p>
            <ul class="segmentations" aria-label="Automations">
              {rows.map((one) => (
                <Row key={one.id} automation={one} names={names} />
              ))}
            </ul>
          </>
        )}
      </Paged>
    </section>
  );
}

function Row({ automation, names }: { automation: Automation; names: ReadonlyMap<string, string> }) {
  const { id, name, enabled, latest, next_at } = automation;
  const came = latestWords(latest);
  return (
    <li>
      <button type="button" id={`open-${id}`} class="segmentation" onClick={() => open(id)}>
        <strong>{name}</strong>
        <span class={enabled ? 'badge strong' : 'badge'}>{enabled ? 'On' : 'Off'}</span>
        <span class="small">{triggerWords(automation)}</span>
        <span class="small">{actionWords(automation, names)}</span>
        <span class="small quiet">
          {latest?.last_at
            ? `Last ${moment(latest.last_at, HERE)}: ${came}`
            : latest && latest.forgotten > 0
              ? `Set off ${counted(latest.forgotten, 'time')}; what came of it went with the consents`
              : 'Not set off yet by customers that you see'}
          {next_at && ` · next ${moment(next_at, HERE)}`}
        </span>
        {latest && latest.failed > 0 && (
          <span class="small wrong">{`${counted(latest.failed, 'failure')}: see why`}</span>
        )}
      </button>
    </li>
  );
}
