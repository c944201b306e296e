-- Times that are none were stored once, and a page that holds one cannot be printed as JSON. They become the nearest time
-- that there is. What is in a payload is beyond SQL, so service.storage.steps does it, in the transaction of this file.

-- step: printable_times
SELECT;
