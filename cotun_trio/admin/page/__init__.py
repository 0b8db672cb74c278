"""The page for people: one document, made by the server, and a script that keeps it up to date.

The script fetches the same document again and puts what has changed in its place, so that there is
one place that knows how things are shown, and the page is complete without a script.

* `page`: the paths of the page, and their answers.  `state`: all that the page shows, at one time.
* `document`: the document.  `tables`: the tables in it.  `chart`: the traffic, drawn.
* `markup`: HTML from values.
* ``page.css`` and ``page.js``: style and script.
"""
