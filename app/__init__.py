"""Equipoise, the map of the house. Rooms are stacked; imports point down only (pyproject.toml checks it).

Doors, in front of the rooms:
  installation    opens the database and key of the settings, brings the schema up to date
  main            builds the application: middleware, doors, error -> status
  settings        the only reader of the environment
  dependencies    database sessions, actor and clock for the doors
  paper           a downtime pack as a file, a letter and slips
  casebook/       a participant's casebook as PDF: all that is kept of them, with the log of it behind
  signed_copy     the copy of a signed consent as PDF, to print or to go by mail
  own_copy        a participant's own copy of their data: casebook and JSON (GDPR Art. 15, 20)
  importing       a file of rows, tried or imported: what is kept, what is taken back, and the report
  printing        records and slips as PDF, and a file that opens without a server
  wording         a stored value in the words of the study
  handover        what a request asks of the exports, and a kept file by range
  listening       which worker takes the next connection
  signposts       which of hundreds of addresses a request is for
  rendering       a page, or the one block htmx asked for
  templating      templates that are made quick: what is the same on every page is made up when one is read
  web/            HTML doors: one file per page family;  static/ styles, icons, small scripts
  api/            JSON doors under /api/v1, the same file names;  redcap/ the REDCap-compatible door, at /api/
  cli             the `equipoise` command line
  jobs            timed doors: reminders that are due, messages that wait in the outbox, exports made in the background
  demo            plays the RESOLVE demo cohort through the same actions a person uses
  tour            what the demo shows beyond what is public of RESOLVE

Rooms, top floor first:
  webhooks/       programs elsewhere that are told of changes: where it is read, never what it says
  imports/        files of others -> mapped rows -> the same acts as on the pages, tried dry or saved
  reports/        how the trial goes, in numbers and never by arm: recruitment, flow, visits, forms, queries, events,
                  and what the data of each site look like beside the others;  review/ of the log
  exports/        study -> tables -> files of many formats, blinded by construction; manifests; what changed since;
                  dummy arms to write programmes with; the whole study as ODM, Dataset-JSON with Define-XML, FHIR
  treatment/      UNBLINDED: what was delivered, session by session, by treating clinicians;  flow/ the flow by arm and
                  the analysis sets, for the statistician
  safety/         adverse events and their clocks, deviations, contacts, concomitant care, lost and dead
  randomisation/  THE SEALED ROOM: sequence or decisions one by one, in one stage or two, sealing, commitment and its
                  proofs, escrow of the seed, allocation, downtime, unblinding, guesses
  amendments/     what a new version means for those in the study; sites that go over to it on their day
  capture/        entries, edit checks, corrections, signatures, drafts; queries, source verification, locks, casebooks;
                  double/ (entered by two people), coding/ (texts coded by two people), agreement,
                  questionnaires/ (answered by participants, by link)
  schedule/       visits and their windows; appointments, their calendar and feeds; reminders
  consent/        versions of the consent document, signatures (typed, drawn), scans, newer consents owed, withdrawal
  repository/     folders and files that the people of a study share, sealed; none of a participant
  participants/   screening, eligibility, identity (sealed personal data), sealed files, status, links for them,
                  corrections of the pre-screen, randomised in error
  studies/        the protocol as data: arms, visit plan, instruments, words in other languages;  library/ (resolve,
                  prt, etmi);  drafts/ folders that are written in the browser;
                  importing/ makes study folders of REDCap, CDISC ODM, USDM and XLSForm files
  expressions/    one pure language for eligibility, skip logic, edit checks, calculations
  people/         users, roles, sites, the permission table, sign-in, second factor, tokens
  mail/           the outbox (queued in the same transaction, sent after) and the ways out of it
  audit/          record, Merkle tree, checkpoints, verify
  foundation/     database, clock, errors, paging, idempotency, crypto/ (the only importer of cryptography)
"""
