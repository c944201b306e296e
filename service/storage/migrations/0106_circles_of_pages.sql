-- A link of the list under way that those after it are compared with: a list that comes back to it goes in a circle.
ALTER TABLE pull ADD COLUMN noted_link text NOT NULL DEFAULT '';
