-- When e was written, in UTC: the nearest time of the years 1 to 9999.
(LEAST(GREATEST(e.at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00') AT TIME ZONE 'UTC')
