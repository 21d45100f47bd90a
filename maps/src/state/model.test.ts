import { describe, expect, it } from 'vitest';
import { type Near, originOf } from './model';

describe('the point that the search around is drawn from', () => {
  const near = (from: Near['from']): Near => ({ lon: -105, lat: 39.7, from });

  it('has its circle while the list is open', () => {
    expect(originOf({ near: near('map'), panel: 'near' }, 5000)).toEqual({ ...near('map'), radius_m: 5000 });
    expect(originOf({ near: null, panel: 'near' }, 5000)).toBeNull();
  });

  it('stays without the list where it is the own position', () => {
    for (const panel of [null, 'key', 'account'] as const) {
      expect(originOf({ near: near('position'), panel }, 5000)).toEqual({ ...near('position'), radius_m: null });
      expect(originOf({ near: near('map'), panel }, 5000)).toBeNull();
    }
  });
});
