/** How many customers an offer is for now: those of its audience who gave the consent, wherever they are. */

import * as routes from '../api/routes';
import { counted } from '../format';
import { usePreview } from '../segments/state';

interface Props {
  /** A filter of the API; null for everybody. */
  audience: object | null;
  /** The purpose of a consent; empty for none. */
  consent: string;
}

export function Reach({ audience, consent }: Props) {
  const conditions = [audience, consent.trim() === '' ? null : { consent: { purpose: consent.trim() } }];
  const held = conditions.filter((one) => one !== null);
  const { data, problem, asking } = usePreview(JSON.stringify(held), (signal) =>
    routes.countCustomers({ all: held }, signal),
  );
  const ready = data !== null && !asking;
  return (
    <p class="small" role="status">
      {problem
        ? `How many customers match cannot be told: ${problem.message}`
        : ready
          ? `${counted(data.customers, 'customer')} ${data.customers === 1 ? 'matches' : 'match'} now${consent.trim() === '' ? '' : ', with the consent'}.`
          : 'Counting…'}
    </p>
  );
}
