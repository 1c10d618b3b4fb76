"""The demo: trains on real data with stock Keras and with tf_optim, side by side.

Run it with `python -m tf_optim.demo`. Rooms:
  digits.py       handwritten digits, a dense network, RMSprop, compile and fit
  skipgram.py     word embeddings, sparse gradients, Adam, a tf.function loop
  identifiers.py  the corpus of the word embeddings
  report.py       tables and the plot
  cli.py          the command line
"""
