-- How often a token was exchanged for a newer one: of two requests at once with one token, one may.
ALTER TABLE partner_token ADD COLUMN exchanges integer NOT NULL DEFAULT 0;
