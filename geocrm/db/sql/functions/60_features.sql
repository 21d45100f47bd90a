-- What sufficient statistics of customers need and SQL has no word for.

-- Of one customer's orders, their days ascending and the amount of each: how many, the first and the last day, how many
-- different days, the sum of the squared days between neighbouring ones, and the amount of the first day.
CREATE OR REPLACE FUNCTION geocrm_rhythm(
  days date[], amounts numeric[],
  OUT orders integer, OUT first_day date, OUT last_day date, OUT purchase_days integer, OUT gap_squares bigint,
  OUT first_day_amount numeric
) LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  this date;
  i integer := 2;
BEGIN
  orders := coalesce(cardinality(days), 0);
  first_day := days[1];
  last_day := first_day;
  purchase_days := least(orders, 1);
  gap_squares := 0;
  first_day_amount := coalesce(amounts[1], 0);
  IF orders < 2 THEN
    RETURN;
  END IF;
  WHILE days[i] = first_day LOOP
    first_day_amount := first_day_amount + amounts[i];
    i := i + 1;
  END LOOP;
  FOREACH this IN ARRAY days[i:] LOOP
    IF this > last_day THEN
      gap_squares := gap_squares + CAST(this - last_day AS bigint) * (this - last_day);
      purchase_days := purchase_days + 1;
      last_day := this;
    ELSIF this < last_day THEN
      RAISE 'days that do not ascend';
    END IF;
  END LOOP;
END
$$;
