/** A list of customers, each row a button that opens the card. */

import type { ComponentChildren } from 'preact';
import { MarkIcon } from '../design/icons';
import { OTHER, STAGE_MARKS } from '../design/palette';
import { words } from '../format';
import type { Pages } from '../state/remote';
import { customer } from '../state/store';
import { openCard } from './map_view';
import { Paged } from './paged';
import './customer_list.css';

export interface ListRow {
  readonly id: string;
  /** Unique in the list: a customer may stand in it with several sites. */
  readonly row: string;
  readonly name: string;
  readonly stage: string | null;
  readonly detail: string;
  readonly aside?: ComponentChildren;
}

interface Props<T> {
  pages: Pages<T>;
  what: string;
  rowOf: (item: T) => ListRow;
  empty: ComponentChildren;
  /** What a screen reader hears when the list is there. */
  summary: (shown: number, more: boolean) => string;
}

export function CustomerList<T>({ pages, what, rowOf, empty, summary }: Props<T>) {
  return (
    <Paged pages={pages} what={what} lines={6} empty={empty}>
      {(items) => {
        const rows = items.map(rowOf);
        return (
          <>
            <p role="status" class="small quiet">
              {summary(rows.length, pages.more !== null)}
            </p>
            <ul class="customer-list">
              {rows.map((row) => (
                <li key={row.row}>
                  <button
                    type="button"
                    id={`row-${row.row}`}
                    class="customer-row"
                    aria-current={customer.value === row.id ? 'true' : undefined}
                    onClick={() => openCard(row.id, `row-${row.row}`)}
                  >
                    <MarkIcon mark={(row.stage && STAGE_MARKS[row.stage]) || OTHER} />
                    <span class="customer-row-text">
                      <span class="customer-row-name">{row.name}</span>
                      <span class="small quiet">
                        {row.stage ? `${words(row.stage)}${row.detail ? ' · ' : ''}` : ''}
                        {row.detail}
                      </span>
                    </span>
                    {row.aside && <span class="customer-row-aside">{row.aside}</span>}
                  </button>
                </li>
              ))}
            </ul>
          </>
        );
      }}
    </Paged>
  );
}
