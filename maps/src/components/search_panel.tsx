/** The customers that a search text finds. */

import { searchCustomers } from '../api/routes';
import type { CustomerRow } from '../api/shapes';
import { counted, words } from '../format';
import { nameOf } from '../state/legend';
import { isFiltered } from '../state/model';
import { usePages } from '../state/remote';
import { clearFilters, filters, state } from '../state/store';
import { CustomerList, type ListRow } from './customer_list';
import { Empty } from './states';

function rowOf(found: CustomerRow): ListRow {
  const owner = found.owner ? (found.owner.name ?? nameOf('owner', found.owner.id)) : 'no owner';
  const parts = [found.site?.city, words(found.kind), owner].filter((part): part is string => Boolean(part));
  return { id: found.id, row: found.id, name: found.name, stage: found.stage, detail: parts.join(' · ') };
}

export function SearchPanel() {
  const text = state.value.query.trim();
  const key = text.length < 2 ? null : JSON.stringify([text, filters.value]);
  const pages = usePages<CustomerRow>(key, (cursor, signal) => searchCustomers(text, filters.value, cursor, signal));
  if (key === null) {
    return (
      <Empty title="Search for a customer">
        <p>Type two letters of a name or more. Small typing mistakes do not matter.</p>
      </Empty>
    );
  }
  return (
    <section class="block" aria-label="Search results">
      <CustomerList
        pages={pages}
        what="search results"
        rowOf={rowOf}
        summary={(shown, more) => `${more ? 'First ' : ''}${counted(shown, 'customer')} for “${text}”`}
        empty={
          <Empty title={`No customer found for “${text}”`}>
            <p>Try fewer letters{isFiltered(filters.value) ? ', or clear the filters' : ''}.</p>
            {isFiltered(filters.value) && (
              <button type="button" class="button" onClick={clearFilters}>
                Clear filters
              </button>
            )}
          </Empty>
        }
      />
    </section>
  );
}
