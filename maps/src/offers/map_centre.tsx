/** The middle of the map, for who cannot point or would rather move the map. */

import { Icon } from '../design/icons';
import type { Point } from '../state/model';
import { map } from '../state/screen';

export function MapCentre({ take }: { take: (point: Point) => void }) {
  return (
    <button
      type="button"
      class="button"
      onClick={() => {
        const middle = map.value?.middle();
        if (middle) take(middle);
      }}
    >
      <Icon name="here" />
      Map centre
    </button>
  );
}
