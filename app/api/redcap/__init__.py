"""The REDCap-compatible door, `POST /api/`: a study as clients of REDCap's API know one (docs/redcap.md).

It translates, and asks the rooms: what is imported goes through the same actions as a form, and what our promises
forbid is answered with the reason. One file per noun, and these for all of them:

  door          which call is this, who asks, who answers
  decoding      the parameters, as any of the known clients writes them;  data: the rows that are sent along
  dictionary    forms, fields, events and groups by their names here;  filters: what an expression sees of a record
  answers       CSV, JSON and XML as clients read them;  errors: what is said instead;  asked: where one call stands

REDCap is a mark of Vanderbilt University. Nothing here is made from its source: clients and public pages alone.
"""
