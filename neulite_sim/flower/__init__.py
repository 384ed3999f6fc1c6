"""An unmodified Flower app on a virtual fleet: its strategy runs on our clock, its messages are flights.

From the app's folder (`app`) and a fleet (`fleet_file`) a run is made (`running`). The `grid` is what the strategy
talks to; `flying` turns a message into a flight, `calling` runs the ClientApp of a node under a tracker (`tracking`),
and `recording` keeps rows. Flower itself is imported only by what is imported when a run begins.
"""
