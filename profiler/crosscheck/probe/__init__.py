"""What reaches what, seen by running operators: the reference that the receptive-field algebra is checked against.

Each element of a tensor carries, for each followed axis of the network's input, how far to the left and how far to the
right the inputs lie that reach it. Positions are written as numbers that are larger the further out they lie, and zero
where nothing is reached, so that every operator does one of two things to them: it moves them, or takes the largest of
several. `propagation` carries these numbers along the walk; `structures` says which of the two each operator does;
`windows` and `products` hold the operators that need more than a line.

Where numbers are moved it is torch's own operator that moves them, with the arguments of the call: `cat`, `roll`,
`pixel_shuffle` and `max_pool2d` run as they are, and which inputs a convolution, an average pool or an interpolation
reads is seen by running that very kernel on impulses of one. No size, padding or index formula of netgauge is used.
"""
